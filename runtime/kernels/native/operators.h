// What our operators of ONNX Runtime share.
#pragma once

#include "onnxruntime_api.h"

#include <stdlib.h>

namespace kernels {

extern const OrtCustomOp TILED_MATMUL;
extern const OrtCustomOp CACHED_ATTENTION;

namespace { // each file its own copy

inline OrtStatus* invalid(const OrtApi* api, const char* message) {
  return api->CreateStatus(ORT_INVALID_ARGUMENT, message);
}

// Elements of a tensor, or -1.
inline int64_t num_elements(const OrtApi* api, const OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info;
  if (OrtStatus* status = api->GetTensorTypeAndShape(value, &info)) {
    api->ReleaseStatus(status);
    return -1;
  }
  size_t count = 0;
  OrtStatus* status = api->GetTensorShapeElementCount(info, &count);
  api->ReleaseTensorTypeAndShapeInfo(info);
  if (!status) return static_cast<int64_t>(count);
  api->ReleaseStatus(status);
  return -1;
}

using Create = OrtStatus* (*)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**);

// An operator that still lacks its name, inputs and outputs; its kernels come from malloc.
inline OrtCustomOp make_operator(Create create, OrtStatus* (*compute)(void*, OrtKernelContext*)) {
  OrtCustomOp op = {};
  op.version = ORT_API_VERSION;
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return REQUIRED; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return DEFAULT_MEMORY; };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.CreateKernelV2 = create;
  op.KernelComputeV2 = compute;
  op.KernelDestroy = [](void* kernel) { free(kernel); };
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return INT32_MAX; };
  return op;
}

} // namespace
} // namespace kernels

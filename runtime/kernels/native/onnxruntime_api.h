// The few entries of ONNX Runtime's C interface that a custom operator needs.
//
// Both tables only grow: an entry keeps its place in every later version. Entries between those
// that are used stand as numbered gaps; tests call every one that is named.
#pragma once

#include <stddef.h>
#include <stdint.h>

constexpr uint32_t ORT_API_VERSION = 17; // the first with KernelContext_ParallelFor, 1.17

enum OrtErrorCode { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum ONNXTensorElementDataType { FLOAT = 1, UINT8 = 2, INT8 = 3, INT32 = 6, FLOAT16 = 10 };
enum OrtCustomOpInputOutputCharacteristic { REQUIRED = 0, OPTIONAL = 1 };
enum OrtMemType { DEFAULT_MEMORY = 0 };

struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtSessionOptions;
struct OrtStatus;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;
struct OrtCustomOp;

#define GAP(first, last) void* gap_##first[(last) - (first) + 1]
struct OrtApi {
  OrtStatus* (*CreateStatus)(OrtErrorCode, const char* message); // 0
  GAP(1, 25);
  OrtStatus* (*CreateCustomOpDomain)(const char* name, OrtCustomOpDomain**);          // 26
  OrtStatus* (*CustomOpDomain_Add)(OrtCustomOpDomain*, const OrtCustomOp*);           // 27
  OrtStatus* (*AddCustomOpDomain)(OrtSessionOptions*, OrtCustomOpDomain*);            // 28
  GAP(29, 50);
  OrtStatus* (*GetTensorMutableData)(OrtValue*, void**);                              // 51
  GAP(52, 60);
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, size_t*);        // 61
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t);    // 62
  GAP(63, 63);
  OrtStatus* (*GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo*, size_t*); // 64
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo**);  // 65
  GAP(66, 85);
  OrtStatus* (*KernelInfoGetAttribute_int64)(const OrtKernelInfo*, const char* name, int64_t*); // 86
  GAP(87, 89);
  OrtStatus* (*KernelContext_GetInput)(const OrtKernelContext*, size_t, const OrtValue**); // 90
  OrtStatus* (*KernelContext_GetOutput)(OrtKernelContext*, size_t, const int64_t* shape,
                                        size_t rank, OrtValue**); // 91
  GAP(92, 92);
  void (*ReleaseStatus)(OrtStatus*); // 93
  GAP(94, 98);
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*); // 99
  GAP(100, 248);
  OrtStatus* (*KernelInfoGetConstantInput_tensor)(const OrtKernelInfo*, size_t, int* is_constant,
                                                  const OrtValue**); // 249
  GAP(250, 273);
  OrtStatus* (*KernelContext_ParallelFor)(const OrtKernelContext*, void (*)(void* user, size_t part),
                                          size_t parts, size_t batches, void* user); // 274
};
#undef GAP
static_assert(offsetof(OrtApi, KernelContext_ParallelFor) == 274 * sizeof(void*));

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// What an operator tells about itself; as of version 17.
struct OrtCustomOp {
  uint32_t version;
  void* create_kernel_v1;
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetInputType)(const OrtCustomOp*, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  ONNXTensorElementDataType (*GetOutputType)(const OrtCustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void* kernel_compute_v1;
  void (*KernelDestroy)(void* kernel);
  OrtCustomOpInputOutputCharacteristic (*GetInputCharacteristic)(const OrtCustomOp*, size_t);
  OrtCustomOpInputOutputCharacteristic (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);
  OrtMemType (*GetInputMemoryType)(const OrtCustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  void* infer_output_shape;
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
};

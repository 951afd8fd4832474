// What ONNX Runtime calls where a session registers the library.
#include "operators.h"

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  OrtCustomOpDomain* domain;
  if (OrtStatus* status = api->CreateCustomOpDomain("alpaca2", &domain)) return status;
  const OrtCustomOp* const ops[] = {&kernels::TILED_MATMUL, &kernels::CACHED_ATTENTION};
  for (const OrtCustomOp* op : ops)
    if (OrtStatus* status = api->CustomOpDomain_Add(domain, op)) return status;
  return api->AddCustomOpDomain(options, domain);
}

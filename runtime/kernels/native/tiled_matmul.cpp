// The product as an operator of ONNX Runtime, alpaca2.TiledMatMul, in the session's thread pool.
//
//   inputs      x float32 (..., K), levels uint8, scales float16: see Weights
//   output      y float32 (..., N)
//   attributes  K, N, bits, block_size
#include "instruction_sets.h"
#include "operators.h"

#include <stdlib.h>

namespace kernels {
namespace {

constexpr int64_t TILES_AT_ONCE = 4;  // what a thread takes of the weights
constexpr int64_t ROWS_AT_ONCE = 4;   // what a thread takes of x, to quantise it
constexpr int64_t FEW_ROWS = 4;       // rows that one thread quantises sooner than two
constexpr size_t MAX_DIMENSIONS = 8;

struct Kernel {
  const OrtApi* api;
  const InstructionSet* set;
  Weights weights;
};

struct Call {
  const Kernel* kernel;
  const float* x;
  QuantizedRows rows;
  float* y;
};

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

void quantize_part(void* user, size_t part) {
  const Call& call = *static_cast<Call*>(user);
  const int64_t first = static_cast<int64_t>(part) * ROWS_AT_ONCE;
  call.kernel->set->quantize(call.kernel->weights, call.x, call.rows, first,
                             smaller(first + ROWS_AT_ONCE, call.rows.num_rows));
}

void multiply_part(void* user, size_t part) {
  const Call& call = *static_cast<Call*>(user);
  const Weights& weights = call.kernel->weights;
  const int64_t first = static_cast<int64_t>(part) * TILES_AT_ONCE;
  call.kernel->set->multiply(weights, call.rows, call.y, first,
                             smaller(first + TILES_AT_ONCE, weights.num_tiles()));
}

OrtStatus* constant(const OrtApi* api, const OrtKernelInfo* info, size_t input, int64_t elements,
                    void** data) {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  if (OrtStatus* s = api->KernelInfoGetConstantInput_tensor(info, input, &is_constant, &value))
    return s;
  if (!is_constant || num_elements(api, value) != elements)
    return invalid(api, "TiledMatMul: levels and scales must be constants of the node's shape");
  return api->GetTensorMutableData(const_cast<OrtValue*>(value), data);
}

OrtStatus* read_weights(const OrtApi* api, const OrtKernelInfo* info, Weights& w) {
  int64_t bits, block_size;
  if (OrtStatus* s = api->KernelInfoGetAttribute_int64(info, "K", &w.num_columns)) return s;
  if (OrtStatus* s = api->KernelInfoGetAttribute_int64(info, "N", &w.num_rows)) return s;
  if (OrtStatus* s = api->KernelInfoGetAttribute_int64(info, "bits", &bits)) return s;
  if (OrtStatus* s = api->KernelInfoGetAttribute_int64(info, "block_size", &block_size)) return s;
  if (!supported(w.num_rows, w.num_columns, block_size, bits))
    return invalid(api, "TiledMatMul: no such size, bits or block_size");
  w.bits = static_cast<int>(bits);
  w.block_size = static_cast<int>(block_size);
  const int64_t blocks = w.num_tiles() * w.num_blocks();
  void *levels, *scales;
  if (OrtStatus* s = constant(api, info, 1, blocks * w.block_bytes(), &levels)) return s;
  if (OrtStatus* s = constant(api, info, 2, blocks * TILE, &scales)) return s;
  w.levels = static_cast<const uint8_t*>(levels);
  w.scales = static_cast<const uint16_t*>(scales);
  return nullptr;
}

OrtStatus* create(const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info, void** made) {
  Kernel kernel = {api, &chosen(), {}};
  if (OrtStatus* status = read_weights(api, info, kernel.weights)) return status;
  void* memory = malloc(sizeof(Kernel));
  if (!memory) return api->CreateStatus(ORT_FAIL, "TiledMatMul: out of memory");
  *static_cast<Kernel*>(memory) = kernel;
  *made = memory;
  return nullptr;
}

OrtStatus* run(OrtKernelContext* context, Call& call) {
  const Kernel& kernel = *call.kernel;
  const int64_t num_rows = call.rows.num_rows;
  if (num_rows <= FEW_ROWS) {
    kernel.set->quantize(kernel.weights, call.x, call.rows, 0, num_rows);
  } else {
    const size_t parts = static_cast<size_t>((num_rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE);
    if (OrtStatus* s =
            kernel.api->KernelContext_ParallelFor(context, quantize_part, parts, parts, &call))
      return s;
  }
  const int64_t tiles = kernel.weights.num_tiles();
  const size_t parts = static_cast<size_t>((tiles + TILES_AT_ONCE - 1) / TILES_AT_ONCE);
  return kernel.api->KernelContext_ParallelFor(context, multiply_part, parts, parts, &call);
}

// Shape of x with K replaced by N; the number of rows.
OrtStatus* output_shape(const Kernel& kernel, const OrtValue* x, int64_t* shape, size_t* rank,
                        int64_t* num_rows) {
  const OrtApi* api = kernel.api;
  OrtTensorTypeAndShapeInfo* info;
  if (OrtStatus* status = api->GetTensorTypeAndShape(x, &info)) return status;
  OrtStatus* status = api->GetDimensionsCount(info, rank);
  if (!status && (*rank < 1 || *rank > MAX_DIMENSIONS))
    status = invalid(api, "TiledMatMul: x has no such number of dimensions");
  if (!status) status = api->GetDimensions(info, shape, *rank);
  api->ReleaseTensorTypeAndShapeInfo(info);
  if (status) return status;
  if (shape[*rank - 1] != kernel.weights.num_columns)
    return invalid(api, "TiledMatMul: the last dimension of x is not K");
  *num_rows = 1;
  for (size_t i = 0; i + 1 < *rank; i++) *num_rows *= shape[i];
  shape[*rank - 1] = kernel.weights.num_rows;
  return nullptr;
}

OrtStatus* compute(void* op, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<Kernel*>(op);
  const OrtApi* api = kernel.api;
  const OrtValue* x;
  OrtValue* y;
  int64_t shape[MAX_DIMENSIONS], num_rows = 0;
  size_t rank = 0;
  void *from, *to;
  if (OrtStatus* s = api->KernelContext_GetInput(context, 0, &x)) return s;
  if (OrtStatus* s = output_shape(kernel, x, shape, &rank, &num_rows)) return s;
  if (OrtStatus* s = api->KernelContext_GetOutput(context, 0, shape, rank, &y)) return s;
  if (num_rows == 0) return nullptr;
  if (OrtStatus* s = api->GetTensorMutableData(const_cast<OrtValue*>(x), &from)) return s;
  if (OrtStatus* s = api->GetTensorMutableData(y, &to)) return s;
  void* memory = malloc(quantized_bytes(kernel.weights, num_rows));
  if (!memory) return api->CreateStatus(ORT_FAIL, "TiledMatMul: out of memory");
  Call call = {&kernel, static_cast<const float*>(from),
               quantized_rows(kernel.weights, num_rows, memory), static_cast<float*>(to)};
  OrtStatus* status = run(context, call);
  free(memory);
  return status;
}

OrtCustomOp make_op() {
  OrtCustomOp op = make_operator(create, compute);
  op.GetName = [](const OrtCustomOp*) { return "TiledMatMul"; };
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 3; };
  op.GetInputType = [](const OrtCustomOp*, size_t i) {
    return i == 0 ? FLOAT : i == 1 ? UINT8 : FLOAT16;
  };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetOutputType = [](const OrtCustomOp*, size_t) { return FLOAT; };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return REQUIRED; };
  return op;
}

} // namespace

const OrtCustomOp TILED_MATMUL = make_op();

} // namespace kernels

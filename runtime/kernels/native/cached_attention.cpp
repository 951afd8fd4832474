// Attention over an int8 cache as an operator of ONNX Runtime, alpaca2.CachedAttention, in the
// session's thread pool. New rows are turned, appended to the cache and attend to all up to them.
//
//   inputs      query float32 (B, S, H D), key and value (B, S, G D) or both left out: then query
//               has all three beside each other, (B, S, (H + 2 G) D); past_key and past_value int8
//               (B, G, rows, D); last_positions int32 (B,), of each sequence's last new row; cos
//               and sin float32 (rows, D / 2); key_scale and value_scale float32 (G, D)
//   outputs     y float32 (B, S, H D); the caches, which may be past_key's and past_value's memory
//   attributes  num_heads, kv_num_heads
#include "attention.h"
#include "instruction_sets.h"
#include "operators.h"

#include <string.h>

namespace kernels {
namespace {

constexpr int64_t ROWS_AT_ONCE = 4; // that a thread appends
enum Input {
  QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, LAST, COS, SIN, KEY_SCALE, VALUE_SCALE, INPUTS
};

struct Kernel {
  const OrtApi* api;
  const InstructionSet* set;
  int64_t num_heads, kv_num_heads;
};

struct Call {
  const InstructionSet* set;
  Attention a;
  bool failed; // set by any thread
};

void append_part(void* user, size_t part) {
  const Call& call = *static_cast<Call*>(user);
  const int64_t rows = call.a.batch_size * call.a.num_rows;
  const int64_t first = static_cast<int64_t>(part) * ROWS_AT_ONCE;
  for (int64_t row = first; row < first + ROWS_AT_ONCE && row < rows; row++)
    call.set->append(call.a, row / call.a.num_rows, row % call.a.num_rows);
}

void attend_part(void* user, size_t part) {
  Call& call = *static_cast<Call*>(user);
  if (!call.set->attend(call.a, static_cast<int64_t>(part)))
    __atomic_store_n(&call.failed, true, __ATOMIC_RELAXED);
}

OrtStatus* create(const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info, void** made) {
  Kernel kernel = {api, &chosen(), 0, 0};
  if (OrtStatus* s = api->KernelInfoGetAttribute_int64(info, "num_heads", &kernel.num_heads))
    return s;
  if (OrtStatus* s = api->KernelInfoGetAttribute_int64(info, "kv_num_heads", &kernel.kv_num_heads))
    return s;
  void* memory = malloc(sizeof(Kernel));
  if (!memory) return api->CreateStatus(ORT_FAIL, "CachedAttention: out of memory");
  *static_cast<Kernel*>(memory) = kernel;
  *made = memory;
  return nullptr;
}

// The dimensions of a tensor that has `rank` of them.
OrtStatus* dimensions(const OrtApi* api, const OrtValue* value, int64_t* sizes, size_t rank) {
  OrtTensorTypeAndShapeInfo* info;
  size_t found = 0;
  if (OrtStatus* status = api->GetTensorTypeAndShape(value, &info)) return status;
  OrtStatus* status = api->GetDimensionsCount(info, &found);
  if (!status && found != rank) status = invalid(api, "CachedAttention: an input of another rank");
  if (!status) status = api->GetDimensions(info, sizes, rank);
  api->ReleaseTensorTypeAndShapeInfo(info);
  return status;
}

// Sizes from query and cache; whether all other inputs have theirs.
OrtStatus* read_sizes(const OrtApi* api, const OrtValue* const* inputs, Attention& a) {
  int64_t query[3], cache[4];
  if (OrtStatus* s = dimensions(api, inputs[QUERY], query, 3)) return s;
  if (OrtStatus* s = dimensions(api, inputs[PAST_KEY], cache, 4)) return s;
  a.batch_size = query[0], a.num_rows = query[1];
  a.cache_rows = cache[2], a.head_dim = cache[3];
  const bool packed = !inputs[KEY];
  const int64_t heads = a.num_heads + (packed ? 2 * a.kv_num_heads : 0);
  const int64_t width = a.kv_num_heads * a.head_dim, rows = a.batch_size * a.num_rows;
  a.query_stride = heads * a.head_dim;
  a.key_stride = a.value_stride = packed ? a.query_stride : width;
  if (!supported(a) || query[2] != a.query_stride || cache[0] != a.batch_size ||
      cache[1] != a.kv_num_heads || packed != !inputs[VALUE])
    return invalid(api, "CachedAttention: no such number of heads, channels or sequences");
  const int64_t angles = num_elements(api, inputs[COS]);
  if ((!packed && (num_elements(api, inputs[KEY]) != rows * width ||
                   num_elements(api, inputs[VALUE]) != rows * width)) ||
      num_elements(api, inputs[PAST_VALUE]) != num_elements(api, inputs[PAST_KEY]) ||
      num_elements(api, inputs[LAST]) != a.batch_size || num_elements(api, inputs[SIN]) != angles ||
      angles < a.cache_rows * (a.head_dim / 2) || num_elements(api, inputs[KEY_SCALE]) != width ||
      num_elements(api, inputs[VALUE_SCALE]) != width)
    return invalid(api, "CachedAttention: inputs whose sizes differ");
  return nullptr;
}

OrtStatus* read_inputs(const OrtApi* api, OrtKernelContext* context, Attention& a) {
  const OrtValue* inputs[INPUTS];
  void* data[INPUTS] = {};
  for (size_t i = 0; i < INPUTS; i++)
    if (OrtStatus* s = api->KernelContext_GetInput(context, i, &inputs[i])) return s;
  if (OrtStatus* s = read_sizes(api, inputs, a)) return s;
  for (size_t i = 0; i < INPUTS; i++)
    if (inputs[i])
      if (OrtStatus* s = api->GetTensorMutableData(const_cast<OrtValue*>(inputs[i]), &data[i]))
        return s;
  a.query = static_cast<const float*>(data[QUERY]);
  a.key = data[KEY] ? static_cast<const float*>(data[KEY]) : a.query + a.num_heads * a.head_dim;
  a.value = data[VALUE] ? static_cast<const float*>(data[VALUE])
                        : a.key + a.kv_num_heads * a.head_dim;
  a.keys = static_cast<int8_t*>(data[PAST_KEY]), a.values = static_cast<int8_t*>(data[PAST_VALUE]);
  a.last_positions = static_cast<const int32_t*>(data[LAST]);
  a.cos = static_cast<const float*>(data[COS]), a.sin = static_cast<const float*>(data[SIN]);
  a.key_scale = static_cast<const float*>(data[KEY_SCALE]);
  a.value_scale = static_cast<const float*>(data[VALUE_SCALE]);
  return inside(a) ? nullptr : invalid(api, "CachedAttention: a new row lies outside the cache");
}

// Where the result goes; a cache that is not written where it was read is copied first.
OrtStatus* make_outputs(const OrtApi* api, OrtKernelContext* context, Attention& a) {
  const int64_t result[] = {a.batch_size, a.num_rows, a.num_heads * a.head_dim};
  const int64_t cache[] = {a.batch_size, a.kv_num_heads, a.cache_rows, a.head_dim};
  OrtValue* output;
  void* to;
  if (OrtStatus* s = api->KernelContext_GetOutput(context, 0, result, 3, &output)) return s;
  if (OrtStatus* s = api->GetTensorMutableData(output, &to)) return s;
  a.y = static_cast<float*>(to);
  for (size_t i = 1; i < 3; i++) {
    int8_t*& rows = i == 1 ? a.keys : a.values;
    if (OrtStatus* s = api->KernelContext_GetOutput(context, i, cache, 4, &output)) return s;
    if (OrtStatus* s = api->GetTensorMutableData(output, &to)) return s;
    if (to != rows)
      memcpy(to, rows, static_cast<size_t>(cache[0] * cache[1] * cache[2] * cache[3]));
    rows = static_cast<int8_t*>(to);
  }
  return nullptr;
}

OrtStatus* compute(void* op, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<Kernel*>(op);
  const OrtApi* api = kernel.api;
  Call call = {kernel.set, {}, false};
  Attention& a = call.a;
  a.num_heads = kernel.num_heads, a.kv_num_heads = kernel.kv_num_heads;
  if (OrtStatus* s = read_inputs(api, context, a)) return s;
  if (OrtStatus* s = make_outputs(api, context, a)) return s;
  if (a.batch_size * a.num_rows == 0) return nullptr;
  const int64_t rows = a.batch_size * a.num_rows;
  const size_t appends = static_cast<size_t>((rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE);
  const size_t parts = static_cast<size_t>(a.num_parts());
  if (OrtStatus* s = api->KernelContext_ParallelFor(context, append_part, appends, appends, &call))
    return s;
  if (OrtStatus* s = api->KernelContext_ParallelFor(context, attend_part, parts, parts, &call))
    return s;
  return call.failed ? api->CreateStatus(ORT_FAIL, "CachedAttention: out of memory") : nullptr;
}

OrtCustomOp make_op() {
  OrtCustomOp op = make_operator(create, compute);
  op.GetName = [](const OrtCustomOp*) { return "CachedAttention"; };
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return INPUTS; };
  op.GetInputType = [](const OrtCustomOp*, size_t i) {
    return i == PAST_KEY || i == PAST_VALUE ? INT8 : i == LAST ? INT32 : FLOAT;
  };
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 3; };
  op.GetOutputType = [](const OrtCustomOp*, size_t i) { return i == 0 ? FLOAT : INT8; };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t i) {
    return i == KEY || i == VALUE ? OPTIONAL : REQUIRED;
  };
  return op;
}

} // namespace

const OrtCustomOp CACHED_ATTENTION = make_op();

} // namespace kernels

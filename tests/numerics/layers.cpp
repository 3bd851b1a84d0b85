#include "tests/numerics/layers.h"

namespace ingot::numerics {

namespace {

void replaceAll(std::string &text, const std::string &from, const std::string &to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// Attention rotated in the projections' epilogue and attention with normed heads, one with a window and one whose keys
// begin at position 1 and whose query heads are too many for a wave; Gated DeltaNet; an MLP; experts; the row before.
// Widths are no multiples of a tile or of a step of K.
constexpr const char *kSymbols = R"(
  llm.weight @embed from "embed" : tensor<101x80xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @norm from "norm" : tensor<80xf32> VECTOR
  llm.weight @head from "head" : tensor<101x80xf32> SCHEME
  llm.weight @freq from "freq" : tensor<16xf32> VECTOR
  llm.weight @q from "q" : tensor<128x80xf32> SCHEME
  llm.weight @k from "k" : tensor<64x80xf32> SCHEME
  llm.weight @v from "v" : tensor<64x80xf32> SCHEME
  llm.weight @v.bias from "v.bias" : tensor<64xf32> VECTOR
  llm.weight @o from "o" : tensor<80x128xf32> SCHEME
  llm.state @c.k key : tensor<?x2x32xCACHE>
  llm.state @c.v value : tensor<?x2x32xCACHE>
  llm.weight @q2 from "q2" : tensor<160x80xf32> SCHEME
  llm.weight @k2 from "k2" : tensor<32x80xf32> SCHEME
  llm.weight @v2 from "v2" : tensor<32x80xf32> SCHEME
  llm.weight @o2 from "o2" : tensor<80x160xf32> SCHEME
  llm.weight @gate2 from "gate2" : tensor<160x80xf32> SCHEME
  llm.weight @q.norm from "q.norm" : tensor<32xf32> VECTOR
  llm.state @d.k key : tensor<?x1x32xCACHE>
  llm.state @d.v value : tensor<?x1x32xCACHE>
  llm.weight @in from "in" : tensor<96x80xf32> SCHEME
  llm.weight @z from "z" : tensor<64x80xf32> SCHEME
  llm.weight @b from "b" : tensor<2x80xf32> SCHEME
  llm.weight @a from "a" : tensor<2x80xf32> SCHEME
  llm.weight @taps from "taps" : tensor<96x4xf32> VECTOR
  llm.weight @decay : tensor<2xf32> value dense<[-0.5, -2.0]> : tensor<2xf32>
  llm.weight @dt from "dt" : tensor<2xf32> VECTOR
  llm.weight @z.norm from "z.norm" : tensor<32xf32> VECTOR
  llm.weight @out from "out" : tensor<80x64xf32> SCHEME
  llm.state @conv conv : tensor<3x96xf32>
  llm.state @s recurrent : tensor<2x16x32xf32>
  llm.weight @gate from "gate" : tensor<200x80xf32> SCHEME
  llm.weight @up from "up" : tensor<200x80xf32> SCHEME
  llm.weight @down from "down" : tensor<80x200xf32> SCHEME
  llm.weight @router from "router" : tensor<7x80xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @e.gate from "e.gate" : tensor<7x40x80xf32> SCHEME
  llm.weight @e.up from "e.up" : tensor<7x40x80xf32> SCHEME
  llm.weight @e.down from "e.down" : tensor<7x80x40xf32> SCHEME
  llm.weight @late from "late" : tensor<80x80xf32> SCHEME
  llm.state @hidden conv : tensor<1x80xf32>
)";
constexpr const char *kBody = R"(
      %x0 = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x80xf32>
      %n0 = llm.rms_norm %x0, @norm eps 1.0e-5 : tensor<?x80xf32> -> tensor<?x80xbf16>
      %q = llm.linear %n0, @q : (tensor<?x80xbf16>) -> tensor<?x128xf32>
      %k = llm.linear %n0, @k : (tensor<?x80xbf16>) -> tensor<?x64xf32>
      %v = llm.linear %n0, @v bias @v.bias : (tensor<?x80xbf16>) -> tensor<?x64xbf16>
      %qr = llm.rope %q, @freq heads 4 head_dim 32 : tensor<?x128xf32> -> tensor<?x128xbf16>
      %kr = llm.rope %k, @freq heads 2 head_dim 32 : tensor<?x64xf32> -> tensor<?x64xbf16>
      llm.append %kr, %v, @c.k, @c.v kv_heads 2 head_dim 32 : tensor<?x64xbf16>, tensor<?x64xbf16>
      %at = llm.attention %qr, @c.k, @c.v heads 4 kv_heads 2 head_dim 32 scale 0.2 window 19 : tensor<?x128xbf16>
      %ao = llm.linear %at, @o : (tensor<?x128xbf16>) -> tensor<?x80xf32>
      %x1 = llm.add %x0, %ao : tensor<?x80xf32>

      %n1 = llm.rms_norm %x1, @norm eps 1.0e-5 : tensor<?x80xf32> -> tensor<?x80xbf16>
      %q2 = llm.linear %n1, @q2 : (tensor<?x80xbf16>) -> tensor<?x160xf32>
      %k2 = llm.linear %n1, @k2 : (tensor<?x80xbf16>) -> tensor<?x32xf32>
      %v2 = llm.linear %n1, @v2 : (tensor<?x80xbf16>) -> tensor<?x32xbf16>
      %qn = llm.rms_norm %q2, @q.norm eps 1.0e-6 heads 5 : tensor<?x160xf32> -> tensor<?x160xf32>
      %kn = llm.rms_norm %k2, @q.norm eps 1.0e-6 heads 1 : tensor<?x32xf32> -> tensor<?x32xf32>
      %qm = llm.rope %qn, @freq heads 5 head_dim 32 : tensor<?x160xf32> -> tensor<?x160xbf16>
      %km = llm.rope %kn, @freq heads 1 head_dim 32 : tensor<?x32xf32> -> tensor<?x32xbf16>
      llm.append %km, %v2, @d.k, @d.v kv_heads 1 head_dim 32 : tensor<?x32xbf16>, tensor<?x32xbf16>
      %au = llm.attention %qm, @d.k, @d.v heads 5 kv_heads 1 head_dim 32 scale 0.15 first 1 : tensor<?x160xbf16>
      %g2 = llm.linear %n1, @gate2 : (tensor<?x80xbf16>) -> tensor<?x160xf32>
      %ag = llm.gated_mul sigmoid %g2, %au : tensor<?x160xf32>, tensor<?x160xbf16> -> tensor<?x160xbf16>
      %av = llm.linear %ag, @o2 : (tensor<?x160xbf16>) -> tensor<?x80xf32>
      %x2 = llm.add %x1, %av : tensor<?x80xf32>

      %n2 = llm.rms_norm %x2, @norm eps 1.0e-5 : tensor<?x80xf32> -> tensor<?x80xbf16>
      %in = llm.linear %n2, @in : (tensor<?x80xbf16>) -> tensor<?x96xf32>
      %z = llm.linear %n2, @z : (tensor<?x80xbf16>) -> tensor<?x64xf32>
      %b = llm.linear %n2, @b : (tensor<?x80xbf16>) -> tensor<?x2xf32>
      %a = llm.linear %n2, @a : (tensor<?x80xbf16>) -> tensor<?x2xf32>
      %co = llm.short_conv %in, @taps, @conv : tensor<?x96xf32>
      %de = llm.delta_rule %co, %b, %a, @decay, @dt, @s key_heads 1 value_heads 2 key_dim 16 value_dim 32
          : tensor<?x96xf32>, tensor<?x2xf32>, tensor<?x2xf32> -> tensor<?x64xf32>
      %dn = llm.rms_norm %de, @z.norm eps 1.0e-6 heads 2 : tensor<?x64xf32> -> tensor<?x64xf32>
      %dz = llm.gated_mul silu %z, %dn : tensor<?x64xf32>, tensor<?x64xf32> -> tensor<?x64xbf16>
      %do = llm.linear %dz, @out : (tensor<?x64xbf16>) -> tensor<?x80xf32>
      %x3 = llm.add %x2, %do : tensor<?x80xf32>

      %n3 = llm.rms_norm %x3, @norm eps 1.0e-5 : tensor<?x80xf32> -> tensor<?x80xbf16>
      %g = llm.linear %n3, @gate : (tensor<?x80xbf16>) -> tensor<?x200xf32>
      %u = llm.linear %n3, @up : (tensor<?x80xbf16>) -> tensor<?x200xf32>
      %h = llm.gated_mul silu %g, %u : tensor<?x200xf32>, tensor<?x200xf32> -> tensor<?x200xbf16>
      %d = llm.linear %h, @down : (tensor<?x200xbf16>) -> tensor<?x80xf32>
      %x4 = llm.add %x3, %d : tensor<?x80xf32>

      %n4 = llm.rms_norm %x4, @norm eps 1.0e-5 : tensor<?x80xf32> -> tensor<?x80xbf16>
      %l = llm.linear %n4, @router : (tensor<?x80xbf16>) -> tensor<?x7xf32>
      %w, %i = llm.route %l top 3 normalize : tensor<?x7xf32> -> tensor<?x3xf32>, tensor<?x3xi32>
      %eg = llm.linear %n4 experts %i, @e.gate : (tensor<?x80xbf16>, tensor<?x3xi32>) -> tensor<?x3x40xf32>
      %eu = llm.linear %n4 experts %i, @e.up : (tensor<?x80xbf16>, tensor<?x3xi32>) -> tensor<?x3x40xf32>
      %eh = llm.gated_mul silu %eg, %eu : tensor<?x3x40xf32>, tensor<?x3x40xf32> -> tensor<?x3x40xbf16>
      %ed = llm.linear %eh experts %i, @e.down : (tensor<?x3x40xbf16>, tensor<?x3xi32>) -> tensor<?x3x80xf32>
      %y = llm.combine %ed, %w : tensor<?x3x80xf32>, tensor<?x3xf32> -> tensor<?x80xf32>
      %x5 = llm.add %x4, %y : tensor<?x80xf32>

      %n5 = llm.rms_norm %x5, @norm eps 1.0e-5 : tensor<?x80xf32> -> tensor<?x80xbf16>
      %be = llm.delay %n5, @hidden : tensor<?x80xbf16>
      %la = llm.linear %be, @late : (tensor<?x80xbf16>) -> tensor<?x80xf32>
      %x6 = llm.add %x5, %la : tensor<?x80xf32>

      %n6 = llm.rms_norm %x6, @norm eps 1.0e-5 : tensor<?x80xf32> -> tensor<?x80xbf16>
      %logits = llm.linear %n6, @head : (tensor<?x80xbf16>) -> tensor<?x101xf32>)";

} // namespace

std::string layersOf(const std::string &scheme, const std::string &cache, LayersFacts facts,
                     const std::vector<LayersFunction> &functions) {
  std::string text =
      "module attributes {llm.facts = {architecture = \"test\", context_length = " + std::to_string(facts.context) +
      R"( : i64, end_of_sequence = array<i64>,
    hidden_size = 80 : i64, layers = 1 : i64, name = "test", prefill_chunk = )" +
      std::to_string(facts.chunk) + R"( : i64, skipped_tensors = [], vocabulary = 101 : i64}} {
)" + kSymbols;
  replaceAll(text, "SCHEME", "{scheme = #llm.scheme<" + scheme + ">}");
  replaceAll(text, "VECTOR", "{scheme = #llm.scheme<f32>}");
  replaceAll(text, "CACHE", cache);
  for (const LayersFunction &f : functions) {
    std::string function =
        "func.func @" + f.name + "(%tokens: tensor<?xi32>) " + f.signature + " {\n" + kBody + "\n" + f.end + "\n}\n";
    replaceAll(function, "tensor<?x", "tensor<" + std::to_string(f.rows) + "x");
    text += function;
  }
  return text + "}\n";
}

} // namespace ingot::numerics

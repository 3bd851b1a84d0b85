// The part of a step that changes from token to token. It lives in device memory, kernels read and advance it, and so a
// captured step can be replayed without the host touching an argument. Compiler and runtime share this layout.
//
// Behind the Step lies the sequence's page table: i32 [context / kPagePositions], the pages that hold its positions
// [kPagePositions i, kPagePositions (i + 1)). A page is a place in every state that grows with the position, the same
// in each; it lies kPagePositions * page positions behind the state's beginning.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ingot {

inline constexpr uint32_t kPagePositions = 16;

// A sampler (programs `greedy` and `sample`) chooses `next` from LOGITS, and `decode_greedy` from logits of its own
// that it need not store. Then they do, in this order of meaning:
//   OUTPUT[generated] = next if generated < capacity; TOKENS[0] = next;
//   position += tokens; tokens = 1; generated += 1.
// So after a prefill and one sampler, and after every decode and sampler, the step describes the next decode.
struct Step {
  int32_t tokens;    // number of tokens in this chunk
  int32_t position;  // position in the sequence of the chunk's first token
  int32_t generated; // tokens the sampler has chosen so far: the next one goes to OUTPUT[generated]
  int32_t capacity;  // number of elements of OUTPUT; the sampler never writes past it
  uint32_t seed[2];  // sampling: the random number of token n is a pure function of (seed, position)
  float temperature; // sampling: 0 takes the likeliest token
  int32_t top_k;     // sampling: 0 keeps all
  float top_p;       // sampling: in (0, 1]; 1 keeps all
  int32_t masked;    // sampling: 0 or 1; with 1 only tokens whose bit in MASK is set are chosen
  int32_t reserved[6];
};
static_assert(sizeof(Step) == 64 && offsetof(Step, position) == 4 && offsetof(Step, generated) == 8 &&
              offsetof(Step, capacity) == 12 && offsetof(Step, seed) == 16 && offsetof(Step, temperature) == 24 &&
              offsetof(Step, top_k) == 28 && offsetof(Step, top_p) == 32 && offsetof(Step, masked) == 36);

// Words of a mask: bit t % 32 of word t / 32 is token t's.
inline constexpr uint64_t maskWords(uint64_t vocabulary) { return (vocabulary + 31) / 32; }

// The logit of a token that a mask leaves out. Low enough that no sampler chooses it beside any real logit, and far
// enough from the end of the range that dividing by a temperature cannot make it infinite.
inline constexpr float kExcludedLogit = -1e30F;

} // namespace ingot

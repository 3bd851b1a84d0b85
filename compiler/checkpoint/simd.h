// Function multiversioning for the loops that touch every weight: built once for any x86-64 and once with AVX2, chosen
// when the program starts. Floating-point contraction must be off in files that use it, or the two would differ.
#pragma once

#if defined(__x86_64__) && defined(__ELF__) && !defined(__SANITIZE_ADDRESS__)
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
// An ifunc resolver runs before the sanitizer's shadow memory exists.
#define INGOT_SIMD
#endif
#endif
#ifndef INGOT_SIMD
#define INGOT_SIMD __attribute__((target_clones("arch=x86-64-v3", "default")))
#endif
#else
#define INGOT_SIMD
#endif
#define INGOT_INLINE inline __attribute__((always_inline))

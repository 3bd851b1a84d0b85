// Switches of the fake HIP library, found by dlsym: it fails on the n-th call and counts what was not given back.
#pragma once

#include <cstdint>

extern "C" {
// The n-th HIP call from now on (1 is the next) answers hipErrorUnknown; 0: none does.
void fakeHipFailAt(int call);
// HIP calls since fakeHipFailAt.
int fakeHipCalls();
// Allocations, registrations, modules, streams and graphs that live.
int fakeHipLive();
// 1: copies, launches and replays wait until the host does, as on a device that is slow; 0: they are done at once.
void fakeHipSetDeferred(int deferred);
// What hipMemGetInfo answers as free.
void fakeHipSetFreeBytes(uint64_t bytes);
// What the device says of sharing the host's memory.
void fakeHipSetIntegrated(int integrated);
}

/* What the emulator offers beyond HIP: choice of the chip, checking modes, fault reports and counters. Plain C, found
 * by dlsym in libingot-emulator.so, so that the caller needs no second runtime. Every function may be called from any
 * thread. Functions that return int answer a hipError_t (0 is success). */
#ifndef INGOT_RUNTIME_EMULATOR_EMULATOR_H
#define INGOT_RUNTIME_EMULATOR_EMULATOR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Chooses the chip, "gfx1151" or "gfx1201". Must come before the first HIP call; without it the environment variable
 * INGOT_EMULATOR_TARGET decides, and without that it is gfx1151. 1 (invalid value) for an unknown chip, 708 when the
 * device is in use already. */
int ingotEmulatorSetTarget(const char *name);

/* Sets an option; each is also read from the environment as INGOT_EMULATOR_<KEY in capitals> at the first HIP call.
 *   threads        0 (all cores) to 256
 *   budget         wave-instructions a workgroup may execute before the launch counts as endless
 *   poison         0 or 1: undefined registers and memory are tracked or filled with a pattern
 *   deterministic  0 or 1: one thread, workgroups in order
 * Takes effect at the next launch. 1 (invalid value) for an unknown key or a value that does not parse. */
int ingotEmulatorSetOption(const char *key, const char *value);

/* The last report: several lines about a fault, a refused image or a refused call; "" if there is none. Valid until the
 * next call on this thread. */
const char *ingotEmulatorLastReport(void);

/* Forgets a sticky device fault, as if the device had been reset; memory, modules and graphs stay. */
void ingotEmulatorClearFault(void);

/* Names a buffer in the counters: `pointer` is the start of a live allocation or of a registered range. Buffers of one
 * name are counted together; without a name a buffer is called "buffer N". Kernel arguments are "arguments", constants
 * and globals of a module "code". 1 (invalid value) for any other pointer or an empty name. */
int ingotEmulatorLabelBuffer(const void *pointer, const char *name);

/* {"target", "totals": {...}, "kernels": {name: {...}}}: launches, waves, wave-instructions by class, bytes of global
 * memory read and written, LDS conflict cycles, seconds of host time, and "buffers": {name: {"read", "written"}}, which
 * add up to the bytes in all. Bytes are the distinct bytes that the lanes of a wave touch with one instruction, before
 * any cache. Valid until the next call on this thread. */
const char *ingotEmulatorCountersJson(void);
void ingotEmulatorResetCounters(void);

#ifdef __cplusplus
}
#endif

#endif

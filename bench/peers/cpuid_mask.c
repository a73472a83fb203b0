// SPDX-License-Identifier: Apache-2.0
//
// Makes a process believe that it runs on a CPU with AVX2 and nothing newer, so that engines which choose their kernels
// by CPUID can be compared as they run there. Load it with LD_PRELOAD.
//
// CPUID faulting (Linux: arch_prctl(ARCH_SET_CPUID, 0), in /proc/cpuinfo as cpuid_fault) turns the instruction into a
// general protection fault, which arrives as SIGSEGV. The handler runs the real instruction, clears the bits of
// AVX-512, AVX-VNNI, AVX10 and AMX, and steps over it. New threads and forked children inherit the setting; exec
// clears it, and the preloaded library sets it again.
//
// What XGETBV, /proc/cpuinfo and the C library's own start-up (memcpy and friends) see is unchanged.
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

// <asm/prctl.h> has it, but not in every kernel's headers.
enum { kArchSetCpuid = 0x1012 };

// Leaf 7 by subleaf and register: Intel SDM volume 2A, "CPUID"; the names are those of its tables.
#define BIT(n) (UINT32_C(1) << (n))
static const uint32_t kLeaf7Ebx = BIT(16) /* AVX512F */ | BIT(17) /* DQ */ | BIT(21) /* IFMA */ | BIT(26) /* PF */ |
                                  BIT(27) /* ER */ | BIT(28) /* CD */ | BIT(30) /* BW */ | BIT(31) /* VL */;
static const uint32_t kLeaf7Ecx =
    BIT(1) /* AVX512_VBMI */ | BIT(6) /* VBMI2 */ | BIT(11) /* VNNI */ | BIT(12) /* BITALG */ | BIT(14) /* VPOPCNTDQ */;
static const uint32_t kLeaf7Edx = BIT(2) /* AVX512_4VNNIW */ | BIT(3) /* 4FMAPS */ | BIT(8) /* VP2INTERSECT */ |
                                  BIT(22) /* AMX_BF16 */ | BIT(23) /* AVX512_FP16 */ | BIT(24) /* AMX_TILE */ |
                                  BIT(25) /* AMX_INT8 */;
static const uint32_t kLeaf7Sub1Eax =
    BIT(4) /* AVX_VNNI */ | BIT(5) /* AVX512_BF16 */ | BIT(21) /* AMX_FP16 */ | BIT(23) /* AVX_IFMA */;
static const uint32_t kLeaf7Sub1Edx = BIT(4) /* AVX_VNNI_INT8 */ | BIT(5) /* AVX_NE_CONVERT */ |
                                      BIT(8) /* AMX_COMPLEX */ | BIT(10) /* AVX_VNNI_INT16 */ | BIT(19) /* AVX10 */;

static struct sigaction earlier;

static void hand_on(int signal, siginfo_t* info, void* context) {
  if (earlier.sa_flags & SA_SIGINFO) {
    earlier.sa_sigaction(signal, info, context);
  } else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
    earlier.sa_handler(signal);
  } else {
    // The faulting instruction runs again, now with the default action: the usual core dump at the usual place.
    struct sigaction fallback = {.sa_handler = SIG_DFL};
    sigaction(signal, &fallback, NULL);
  }
}

static void emulate(int signal, siginfo_t* info, void* context) {
  greg_t* r = ((ucontext_t*)context)->uc_mcontext.gregs;
  const uint8_t* code = (const uint8_t*)r[REG_RIP];
  // A general protection fault says SI_KERNEL; only then is the code known to be readable.
  if (info->si_code != SI_KERNEL || code[0] != 0x0F || code[1] != 0xA2) {
    hand_on(signal, info, context);
    return;
  }
  const uint32_t leaf = (uint32_t)r[REG_RAX];
  const uint32_t subleaf = (uint32_t)r[REG_RCX];
  uint32_t eax, ebx, ecx, edx;
  syscall(SYS_arch_prctl, kArchSetCpuid, 1);
  __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
  syscall(SYS_arch_prctl, kArchSetCpuid, 0);
  if (leaf == 7 && subleaf == 0) {
    ebx &= ~kLeaf7Ebx;
    ecx &= ~kLeaf7Ecx;
    edx &= ~kLeaf7Edx;
  } else if (leaf == 7 && subleaf == 1) {
    eax &= ~kLeaf7Sub1Eax;
    edx &= ~kLeaf7Sub1Edx;
  }
  r[REG_RAX] = eax;
  r[REG_RBX] = ebx;
  r[REG_RCX] = ecx;
  r[REG_RDX] = edx;
  r[REG_RIP] += 2;
}

__attribute__((constructor)) static void mask_cpuid(void) {
  struct sigaction action = {.sa_sigaction = emulate, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGSEGV, &action, &earlier) != 0 || syscall(SYS_arch_prctl, kArchSetCpuid, 0) != 0) {
    fprintf(stderr, "cpuid_mask: this CPU or kernel cannot make CPUID fault; nothing is masked\n");
    _exit(1);
  }
}

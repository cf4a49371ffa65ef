// Fibers: function calls with a stack of their own, and the context switch between them.
//
// A context switch pushes the registers that a function must preserve (the callee-saved registers
// of the calling convention), exchanges the stack pointers, and pops the registers of the other
// fiber. ucontext does the same in about 0.5 us, because it also saves the signal mask by a system
// call; it is used if there is no assembly code for the processor.
#pragma once

#include "language.h"

namespace emulator {
// A CUDA thread may have 512 KiB of local memory; the rest is for the frames of function calls.
constexpr std::size_t STACK_BYTES = 576 * 1024;

struct Fiber;
static void fiber_loop();  // the function that every fiber runs; it never returns

#if defined(__x86_64__) || defined(__aarch64__)
struct Fiber {
    void* stack_pointer = nullptr;
    int thread = 0;             // the CUDA thread that it runs, numbered within the block
    uint3 index = {0, 0, 0};    // that thread's threadIdx
    char* stack = nullptr;      // allocated when the fiber is first used
};

// Save this context to *save, and continue the one that was saved as `load`.
extern "C" void emulator_switch(void** save, void* load) __attribute__((visibility("hidden")));
#if defined(__x86_64__)
asm(R"(
.text
.hidden emulator_switch
.type emulator_switch, @function
emulator_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
)");
// A saved context: six registers, the return address, and a word that keeps the stack aligned.
constexpr int SAVED_WORDS = 8, RETURN_ADDRESS_WORD = 6;
#else
asm(R"(
.text
.hidden emulator_switch
.type emulator_switch, %function
emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
constexpr int SAVED_WORDS = 20, RETURN_ADDRESS_WORD = 11;  // x30 is the link register
#endif

// Make a context that begins with a call of fiber_loop.
static void init_context(Fiber& fiber) {
    auto top = reinterpret_cast<void**>(fiber.stack + STACK_BYTES) - SAVED_WORDS;
    std::memset(top, 0, SAVED_WORDS * sizeof(void*));
    top[RETURN_ADDRESS_WORD] = reinterpret_cast<void*>(&fiber_loop);
    fiber.stack_pointer = top;
}

static void switch_context(Fiber& from, Fiber& to) {
    // What is stored before is in memory before `to` is read: a signal may pause the launch, which
    // changes the main fiber.
    asm volatile("" ::: "memory");
    emulator_switch(&from.stack_pointer, to.stack_pointer);
}
#else
struct Fiber {
    ucontext_t context;
    int thread = 0;
    uint3 index = {0, 0, 0};
    char* stack = nullptr;
};

static void init_context(Fiber& fiber) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_loop, 0);
}

static void switch_context(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
#endif
}  // namespace emulator

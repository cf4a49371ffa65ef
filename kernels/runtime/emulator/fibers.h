// A function call that can be left in the middle: a stack of its own, and a switch between stacks.
#pragma once
#include <cstddef>
#include <cstring>

#include "language.h"

namespace emulator {
// What CUDA gives a thread for its variables, 512 KiB, and room for calls.
constexpr std::size_t STACK = 576 * 1024;

struct Fiber;
static void fiber_loop();

#if defined(__x86_64__) || defined(__aarch64__)
struct Fiber {
    void* stack_pointer = nullptr;
    int thread = 0;
    uint3 index = {0, 0, 0};
    char* stack = nullptr;
};

// Push what a function must preserve, exchange the stack pointers, pop, return.
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
constexpr int SAVED_WORDS = 8, ENTRY_WORD = 6;  // six registers, the entry, and a word of alignment
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
constexpr int SAVED_WORDS = 20, ENTRY_WORD = 11;  // x30 holds the entry
#endif

static void prepare(Fiber& fiber) {
    auto top = reinterpret_cast<void**>(fiber.stack + STACK) - SAVED_WORDS;
    std::memset(top, 0, SAVED_WORDS * sizeof(void*));
    top[ENTRY_WORD] = reinterpret_cast<void*>(&fiber_loop);
    fiber.stack_pointer = top;
}

static void exchange(Fiber& from, Fiber& to) {
    emulator_switch(&from.stack_pointer, to.stack_pointer);
}
#else
}  // namespace emulator
#include <ucontext.h>
namespace emulator {
struct Fiber {
    ucontext_t context;
    int thread = 0;
    uint3 index = {0, 0, 0};
    char* stack = nullptr;
};

static void prepare(Fiber& fiber) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, fiber_loop, 0);
}

static void exchange(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
#endif
}  // namespace emulator

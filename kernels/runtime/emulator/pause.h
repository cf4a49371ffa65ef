// Signals while a kernel runs: the launch pauses at times, and a fault of the kernel ends it.
//
// A timer sends a signal every quarter of a second. Its handler switches to the main fiber, and the
// launch returns PAUSED to Python, which then handles signals of its own (Ctrl-C), looks whether
// the launch makes progress, and calls emulator_resume(): the handler returns, and the thread goes
// on where it was.
#pragma once

#include "block.h"

namespace emulator {
constexpr int PAUSED = 2;  // as in emulator.py
constexpr long PAUSE_NANOSECONDS = 250'000'000;
// A function that may hold a lock of the C library (malloc, stdio) is not paused before its end.
static volatile bool busy, pause_is_due;
// For the source line of an error, the address after the instruction, or null: of the check that
// failed, or where a signal has interrupted the thread, and then of its latest check.
static const void *error_address, *latest_address;
static const void* paused_at;
static Fiber paused;  // the context of `current` where it has paused

inline const void* latest_check() {
#ifdef CHECKED
    if (last_checked != RETURNED) return last_checked;
#endif
    return nullptr;
}

inline void pause(const void* address) {
    pause_is_due = false;
    paused_at = address;
    is_paused = true;  // and so a signal from here on does not pause again
    switch_context(paused, main_fiber);
}

class Busy {
    const bool before;

public:
    Busy() : before(busy) { busy = true; }
    ~Busy() {
        busy = before;
        if (pause_is_due && !before) pause(nullptr);
    }
};

// Return the address of the instruction that the signal has interrupted; null if unknown.
inline const char* interrupted_at(const void* context) {
    const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
    static_cast<void>(machine);
#if defined(__x86_64__)
    return reinterpret_cast<const char*>(machine.gregs[REG_RIP]);
#elif defined(__aarch64__)
    return reinterpret_cast<const char*>(machine.pc);
#else
    return nullptr;
#endif
}

// A timer that sends a signal to this thread, as long as this object exists. Linux has one for a
// thread; elsewhere a launch does not pause.
#ifdef __linux__
class Ticks {
    static inline timer_t timer;
    static inline pid_t owner;  // the thread of the timer; 0: there is none

    static bool set(long nanoseconds) {
        const itimerspec interval{{0, nanoseconds}, {0, nanoseconds}};
        return timer_settime(timer, 0, &interval, nullptr) == 0;
    }

public:
    static constexpr int SIGNAL = SIGVTALRM;  // which nobody uses, and gdb does not stop at

    Ticks() {
        // The timer is kept for the next launch: to make one takes longer than to run a small
        // kernel.
        const auto self = static_cast<pid_t>(syscall(SYS_gettid));
        if (owner == self && set(PAUSE_NANOSECONDS)) return;  // A forked child has no timer.
        if (owner && owner != self) timer_delete(timer);
        sigevent event{};
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_signo = SIGNAL;
        event._sigev_un._tid = self;
        owner = timer_create(CLOCK_MONOTONIC, &event, &timer) == 0 ? self : 0;
        if (owner) set(PAUSE_NANOSECONDS);
    }
    ~Ticks() {
        if (owner) set(0);
    }
    static void unblock() {
        sigset_t ticks;
        sigemptyset(&ticks);
        sigaddset(&ticks, SIGNAL);
        pthread_sigmask(SIG_UNBLOCK, &ticks, nullptr);
    }
};

#else
struct Ticks {
    static constexpr int SIGNAL = SIGVTALRM;
    Ticks() {}
    static void unblock() {}
};
#endif

// Handles signals while a kernel runs.
class SignalHandlers {
    static constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, Ticks::SIGNAL};
    struct sigaction before[4];

    static void handle(int number, siginfo_t*, void* context) {
        const auto frame = static_cast<const char*>(__builtin_frame_address(0));
        const bool is_on_fiber = current != &main_fiber && current->stack <= frame &&
                                 frame < current->stack + STACK_BYTES;
        if (number == Ticks::SIGNAL) {
            if (!is_on_fiber || is_paused || is_aborted) return;
            if (busy) pause_is_due = true;
            else pause(interrupted_at(context) + 1);
            return;
        }
        if (!is_on_fiber) {  // not the kernel's: its repetition ends the process
            std::signal(number, SIG_DFL);
            return;
        }
        char thread[100];
        describe_thread(thread, sizeof thread, current->thread);
        std::snprintf(message, sizeof message, "%s %s; the checked build names the line", thread,
                      number == SIGFPE ? "divides an integer by zero"
                                       : "accesses memory outside all arrays, or a vector such as"
                                         " float4 at an address that is no multiple of its size");
        error_address = interrupted_at(context) + 1;
        abort_launch();
    }

public:
    SignalHandlers() {
        struct sigaction action {};
        action.sa_sigaction = handle;
        for (int i = 0; i < 4; ++i) {
            // SA_NODEFER because the handler of a fault does not return. Ticks are blocked while
            // one is handled, and so while the launch is paused.
            action.sa_flags = SA_SIGINFO | SA_RESTART;
            if (SIGNALS[i] != Ticks::SIGNAL) action.sa_flags |= SA_NODEFER;
            sigaction(SIGNALS[i], &action, &before[i]);
        }
    }
    ~SignalHandlers() {
        // The handler of ticks may stay: by default one that is still pending ends the process.
        const int count = before[3].sa_handler == SIG_DFL ? 3 : 4;
        for (int i = 0; i < count; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
    }
};
}  // namespace emulator

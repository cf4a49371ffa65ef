// Asynchronous copies from global to shared memory. A thread that starts a copy goes on at once,
// and no register holds the value on its way. From compute capability 8.0 on this is one
// instruction (PTX cp.async); before that, a load and a store.
//
//     AsyncCopies<REAL, 4> copies;             // of one thread, at most 4 at a time
//     copies.start<4>(tile + i, x + j, 3);     // tile[i .. i + 3] = x[j], x[j + 1], x[j + 2], 0
//     copies.wait();                           // this thread's copies have arrived ...
//     __syncthreads();                         // ... and those of all threads
//
// The checked build of the emulator stores to shared memory in `wait`, the last moment that a GPU
// may choose: it finds a kernel that reads the tile before.

template <class T, int CAPACITY> struct AsyncCopies {
#ifdef CHECKED
    struct Copy {
        Shared<T> to;
        int size;
        T values[16 / sizeof(T)];
    };
    Copy started[CAPACITY];
    int count = 0;

    template <int N> __forceinline__ void start(const Shared<T>& to, const In<T>& from, int exist) {
        if (count == CAPACITY) __trap();  // a kernel that never waits
        Pack<T, N> pack = {};
        if (exist >= N) pack = load<N>(from, 0);
        for (int l = 0; l < exist && exist < N; ++l) pack.values[l] = from[l];
        started[count].to = to;
        started[count].size = N;
        for (int l = 0; l < N; ++l) started[count].values[l] = pack.values[l];
        ++count;
    }
    __forceinline__ void wait() {
        for (int c = 0; c < count; ++c) {
            if (started[c].size == 1) {
                started[c].to[0] = started[c].values[0];
            } else {
                constexpr int N = 16 / sizeof(T);
                Pack<T, N> pack;
                for (int l = 0; l < N; ++l) pack.values[l] = started[c].values[l];
                store<N>(started[c].to, 0, pack);
            }
        }
        count = 0;
    }
#else
    // Start to copy N elements, one or 16 bytes of them, of which `exist` are read; the rest are 0.
    // Both addresses are multiples of N elements.
    template <int N>
    __device__ __forceinline__ void start(const Shared<T>& to, const In<T>& from, int exist) {
        static_assert(N == 1 || N * sizeof(T) == 16, "one element, or 16 bytes");
#if __CUDA_ARCH__ >= 800
        const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
        if constexpr (N == 1) {  // The predicate makes it a copy of 0.
            asm volatile(
                "{ .reg .pred p; setp.ne.b32 p, %3, 0;"
                " cp.async.ca.shared.global [%0], [%1], %2, p; }" ::"r"(address),
                "l"(from), "n"(sizeof(T)), "r"(static_cast<int>(exist <= 0)));
        } else {  // These may bypass the L1 cache (cg).
            const int bytes = max(0, min(exist, N)) * static_cast<int>(sizeof(T));
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                         "r"(bytes));
        }
#else
        Pack<T, N> pack = {};
        if (exist >= N) pack = load<N>(from, 0);
        else
            for (int l = 0; l < N; ++l)
                if (l < exist) pack.values[l] = from[l];
        store<N>(to, 0, pack);
#endif
    }
    // Wait until this thread's copies have arrived.
    __device__ __forceinline__ void wait() {
#if __CUDA_ARCH__ >= 800
        asm volatile("cp.async.wait_all;" ::: "memory");
#endif
    }
#endif
};

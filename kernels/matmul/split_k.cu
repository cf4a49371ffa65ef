// Split-K, second part: add the partial sums of each element, from several blocks, in order.
//
// Computes: y[i] = partial[0, i] + partial[1, i] + ... (+ bias). `partial` is (splits, size); the
//     rows of y have n elements, and so has `bias`, which may be null.
// Launch: one thread per element, blocks of 256 threads.
//
// The order of the additions is fixed, so the bits do not depend on which block finished first.
// (Atomic additions would save this launch and make the order, and the bits, vary from run to run.)
//
// Optimizations:
//   - global memory coalescing: neighbouring threads read neighbouring elements of each partial sum

extern "C" __global__ void __launch_bounds__(256)
    sum_splits(Out<REAL> y, In<REAL> partial, In<REAL> bias, long long splits, long long size,
               long long n) {
    const long long i = global_thread();
    if (i >= size) return;
    REAL total = partial[i];
    for (long long split = 1; split < splits; ++split) total += partial[split * size + i];
    if (bias) total += bias[i % n];
    y[i] = total;
}

// Ops that move elements. All but `transposed` take a thread per element of what they write.

// y[..] = x[..] over a Walk of both.
extern "C" __global__ void __launch_bounds__(256) move(Out<REAL> y, In<REAL> x, Walk<2> walk) {
    const long long i = global_thread();
    if (i >= walk.size) return;
    long long places[2];
    walk.locate(i, places);
    y[places[0]] = x[places[1]];
}

extern "C" __global__ void __launch_bounds__(256) fill(Out<REAL> y, long long size, REAL value) {
    const long long i = global_thread();
    if (i < size) y[i] = value;
}

// y[b, r, c] = x[b * batch_stride + r + c * stride]: both sides are read and written along their
// rows. A tile of 32 x 32 goes through shared memory, whose rows are 33 long so that the 32 elements
// of a column lie in 32 different banks. Threads: 32 x 8.
extern "C" __global__ void __launch_bounds__(256)
    transposed(Out<REAL> y, In<REAL> x, long long rows, long long columns, long long batch_stride,
               long long stride) {
    SHARED(REAL, tile, 32 * 33);
    const long long column = blockIdx.x * 32LL, row = blockIdx.y * 32LL;
    const long long from = blockIdx.z * batch_stride, to = blockIdx.z * rows * columns;
    for (int k = threadIdx.y; k < 32; k += 8)
        if (column + k < columns && row + threadIdx.x < rows)
            tile[k * 33 + threadIdx.x] = x[from + row + threadIdx.x + (column + k) * stride];
    __syncthreads();
    for (int k = threadIdx.y; k < 32; k += 8)
        if (row + k < rows && column + threadIdx.x < columns)
            y[to + (row + k) * columns + column + threadIdx.x] = tile[threadIdx.x * 33 + k];
}

// y[o, j, c] = x[o, i[o, j, c], c]; y is (outer, count, inner), x (outer, size, inner). The indices
// have strides of their own.
extern "C" __global__ void __launch_bounds__(256)
    gather(Out<REAL> y, In<REAL> x, In<long long> i, long long outer, long long count,
           long long inner, long long size, long long step_o, long long step_j, long long step_c) {
    const long long at = global_thread();
    if (at >= outer * count * inner) return;
    const long long c = at % inner, j = at / inner % count, o = at / inner / count;
    y[at] = x[(o * size + i[o * step_o + j * step_j + c * step_c]) * inner + c];
}

// y[o, i[o, j, c], c] += x[o, j, c], for j = 0, 1, ...: in this order, whatever the number of
// threads. A thread owns column (o, c) in the rows of one band, so no two write the same element;
// it reads all indices of its column and takes those that fall into its band.
extern "C" __global__ void __launch_bounds__(128)
    scatter_add(Out<REAL> y, In<REAL> x, In<long long> i, long long outer, long long count,
                long long inner, long long size, long long step_o, long long step_j,
                long long step_c, long long band) {
    const long long at = global_thread();
    if (at >= outer * inner) return;
    const long long c = at % inner, o = at / inner;
    const long long first = blockIdx.y * band, last = first + band < size ? first + band : size;
    for (long long row = first; row < last; ++row) y[(o * size + row) * inner + c] = REAL(0);
    for (long long j = 0; j < count; ++j) {
        const long long row = i[o * step_o + j * step_j + c * step_c];
        if (first <= row && row < last)
            y[(o * size + row) * inner + c] += x[(o * count + j) * inner + c];
    }
}

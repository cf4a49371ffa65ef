// Ops that move elements on a GPU: transposition, gather and scatter-add. (Other copies, and fills,
// are the elementwise kernel `copy`.)
//
// Computes: see each kernel.
// Launch: one thread per element of the result, blocks of 256 threads; exceptions are the
//     transpositions, and `scatter_add`, which has one thread per column of a band of rows.
//
// Optimizations:
//   - transpose: shared-memory tiling, so that both global reads and writes are coalesced; the
//     tile is padded against bank conflicts
//   - scatter_add: no atomic operations, so that the order of additions, and the bits, are fixed

// y[b, r, c] = x[b * batch_stride + r + c * stride]. A tile of EDGE x EDGE goes through shared
// memory: x is read along r and y is written along c, both contiguous. The tile's rows are EDGE + 1
// long, so that the elements of a column lie in different banks. Blocks of EDGE x 256 / EDGE
// threads; in a whole tile all loads of a thread are on their way together.
template <int EDGE>
__device__ __forceinline__ void transpose_tile(const Out<REAL>& y, const In<REAL>& x,
                                               long long rows, long long columns,
                                               long long batch_stride, long long stride) {
    constexpr int HEIGHT = 256 / EDGE, COUNT = EDGE / HEIGHT;
    SHARED(REAL, tile, EDGE * (EDGE + 1));
    const int across = threadIdx.x, down = threadIdx.y;
    const long long column = blockIdx.x * static_cast<long long>(EDGE);
    const long long row = blockIdx.y * static_cast<long long>(EDGE);
    In<REAL> from = x + (blockIdx.z * batch_stride + row + across + (column + down) * stride);
    const bool whole = row + EDGE <= rows && column + EDGE <= columns;
    if (whole) {
        REAL values[COUNT];
#pragma unroll
        for (int k = 0; k < COUNT; ++k) {
            values[k] = *from;
            from = from + HEIGHT * stride;
        }
#pragma unroll
        for (int k = 0; k < COUNT; ++k) tile[(down + k * HEIGHT) * (EDGE + 1) + across] = values[k];
    } else {
#pragma unroll 1
        for (int k = down; k < EDGE; k += HEIGHT) {
            if (column + k < columns && row + across < rows) tile[k * (EDGE + 1) + across] = *from;
            from = from + HEIGHT * stride;
        }
    }
    __syncthreads();
    const long long first = (blockIdx.z * rows + row + down) * columns + column + across;
    if (whole) {
#pragma unroll
        for (int k = 0; k < COUNT; ++k)
            y[first + k * HEIGHT * columns] = tile[across * (EDGE + 1) + down + k * HEIGHT];
    } else {
#pragma unroll 1
        for (int k = 0; k < COUNT; ++k)
            if (row + down + k * HEIGHT < rows && column + across < columns)
                y[first + k * HEIGHT * columns] = tile[across * (EDGE + 1) + down + k * HEIGHT];
    }
}

#define TRANSPOSE(name, EDGE)                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                     \
        name(Out<REAL> y, In<REAL> x, long long rows, long long columns,                  \
             long long batch_stride, long long stride) {                                  \
        transpose_tile<EDGE>(y, x, rows, columns, batch_stride, stride);                  \
    }
TRANSPOSE(transpose_32, 32)
#if !defined(REAL_IS_FLOAT64) && !defined(REAL_IS_INT64)
TRANSPOSE(transpose_64, 64)
#endif

// The result for an index outside the axis: NaN, the least integer, true.
__device__ __forceinline__ REAL no_element() {
#if defined(REAL_IS_FLOAT32) || defined(REAL_IS_FLOAT64)
    return REAL(nan(""));
#elif defined(REAL_IS_BOOL)
    return true;
#else
    return -9223372036854775807LL - 1;
#endif
}

// Compute y[o, j, c] = x[o, i[o, j, c], c]; y is (outer, count, inner), x (outer, size, inner). The
// indices may have any strides. One outside 0 ... size - 1 gives NaN, as no kernel can raise.
extern "C" __global__ void __launch_bounds__(256)
    gather(Out<REAL> y, In<REAL> x, In<long long> i, long long outer, long long count,
           long long inner, long long size, long long stride_o, long long stride_j,
           long long stride_c) {
    const long long thread = global_thread();
    if (thread >= outer * count * inner) return;
    const long long c = thread % inner, j = thread / inner % count, o = thread / inner / count;
    const long long row = i[o * stride_o + j * stride_j + c * stride_c];
    y[thread] = 0 <= row && row < size ? static_cast<REAL>(x[(o * size + row) * inner + c])
                                       : no_element();
}

// y = 0, then y[o, i[o, j, c], c] += x[o, j, c] for j = 0, 1, ..., in this order. A thread owns
// column (o, c) in one band of rows, so no two threads write the same element; it reads all indices
// of its column and uses those that fall into its band. One outside 0 ... size - 1 makes the whole
// column NaN.
extern "C" __global__ void __launch_bounds__(128)
    scatter_add(Out<REAL> y, In<REAL> x, In<long long> i, long long outer, long long count,
                long long inner, long long size, long long stride_o, long long stride_j,
                long long stride_c, long long band_rows) {
    const long long thread = global_thread();
    if (thread >= outer * inner) return;
    const long long c = thread % inner, o = thread / inner;
    const long long first = blockIdx.y * band_rows;
    const long long last = first + band_rows < size ? first + band_rows : size;
    for (long long row = first; row < last; ++row) y[(o * size + row) * inner + c] = REAL(0);
    for (long long j = 0; j < count; ++j) {
        const long long row = i[o * stride_o + j * stride_j + c * stride_c];
        if (first <= row && row < last)
            y[(o * size + row) * inner + c] += x[(o * count + j) * inner + c];
        else if (row < 0 || row >= size)
            for (long long r = first; r < last; ++r) y[(o * size + r) * inner + c] = no_element();
    }
}

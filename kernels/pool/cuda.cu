// Sum pooling and its gradient on a GPU.
//
// Computes: sum_pool        y[a, b] = sum of the window of x that begins at (a stride, b stride)
//           sum_pool_grad   y[i, j] = sum of g over the windows that cover pixel (i, j)
// Launch: one thread per element of y, blocks of 256 threads.
//
// Gather. The gradient could be a scatter, one thread per window that adds to its pixels, but then
// several threads would add to one pixel. Instead each pixel's thread finds the windows that cover
// it:
//
//      pixel i        0 1 2 3 4 5 6      windows of 3, stride 2: pixel i is covered by windows
//      window 0       x x x              ceil((i - 2) / 2) to floor(i / 2), those that exist
//      window 1           x x x
//      window 2               x x x
//
// Optimizations:
//   - global memory coalescing: neighbouring threads write neighbours of a row, and read
//     neighbours, or elements at steps of `stride`

constexpr int THREADS = 256;

// The strides of an array of images, in elements.
struct ImageStrides {
    long long image, channel, row, column;
};
struct Windows {
    long long size;                     // elements of y, (images, channels, height, width)
    long long channels, height, width;  // of y
    long long rows, columns;            // of the input; sum_pool_grad: the number of windows
    long long kernel_height, kernel_width, stride_down, stride_across;
    ImageStrides x;                     // of the input
};

// Return i / divisor, and leave the remainder in i.
__device__ __forceinline__ long long divide_with_remainder(long long& i, long long divisor) {
    const long long quotient = integer_divide(i, divisor);
    i -= quotient * divisor;
    return quotient;
}

// An element of y, and the offset of its channel in the input.
struct Pixel {
    long long row, column, start;
    __device__ __forceinline__ Pixel(const Windows& s, long long i) {
        const long long line = divide_with_remainder(i, s.width);
        column = i;
        long long rest = line;
        const long long plane = divide_with_remainder(rest, s.height);
        row = rest;
        rest = plane;
        const long long image = divide_with_remainder(rest, s.channels);
        start = image * s.x.image + rest * s.x.channel;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS) sum_pool(Out<REAL> y, In<REAL> x, Windows s) {
    const long long i = global_thread();
    if (i >= s.size) return;
    const Pixel pixel(s, i);
    const long long first = pixel.start + pixel.row * s.stride_down * s.x.row +
                            pixel.column * s.stride_across * s.x.column;
    REAL total = 0;
    for (long long h = 0; h < s.kernel_height; ++h)
        for (long long v = 0; v < s.kernel_width; ++v)
            total += x[first + h * s.x.row + v * s.x.column];
    y[i] = total;
}

// Find the first and the last window that cover pixel i, along one axis.
__device__ __forceinline__ void find_windows(long long i, long long kernel, long long stride,
                                             long long count, long long& first, long long& last) {
    long long before =
        i - kernel + stride;  // ceil(a / b) = floor((a + b - 1) / b), for a = i - kernel + 1
    first = before > 0 ? divide_with_remainder(before, stride) : 0;
    last = divide_with_remainder(i, stride);
    if (last >= count) last = count - 1;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    sum_pool_grad(Out<REAL> y, In<REAL> g, Windows s) {
    const long long i = global_thread();
    if (i >= s.size) return;
    const Pixel pixel(s, i);
    long long top, bottom, left, right;
    find_windows(pixel.row, s.kernel_height, s.stride_down, s.rows, top, bottom);
    find_windows(pixel.column, s.kernel_width, s.stride_across, s.columns, left, right);
    REAL total = 0;
    for (long long a = bottom; a >= top; --a)
        for (long long b = right; b >= left; --b)
            total += g[pixel.start + a * s.x.row + b * s.x.column];
    y[i] = total;
}

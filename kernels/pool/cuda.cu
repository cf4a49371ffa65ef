// Pooling and its gradients on a GPU.
//
// Computes: sum_pool        y[a, b] = sum of the window of x that begins at (a stride, b stride)
//           sum_pool_grad   y[i, j] = sum of g over the windows that cover pixel (i, j)
//           max_pool        y[a, b] = x at the pixel of the window at which `by` is largest
//           max_pool_grad   y[i, j] = sum of g over the windows in which `by` is largest at (i, j)
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
// The gradient of max pooling does the same, and finds the maximum of each of these windows again:
// that reads a window of `by` from the caches, instead of indices of 8 bytes from memory.
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

// Element i of an array (images, channels, height, width).
struct Pixel {
    long long image, channel, row, column;
    __device__ __forceinline__ Pixel(long long i, long long channels, long long height,
                                     long long width) {
        const long long line = divide_with_remainder(i, width);
        column = i;
        long long rest = line;
        const long long plane = divide_with_remainder(rest, height);
        row = rest;
        rest = plane;
        image = divide_with_remainder(rest, channels);
        channel = rest;
    }
    // Return the offset of the pixel's plane in an array of these strides.
    __device__ __forceinline__ long long start(const ImageStrides& strides) const {
        return image * strides.image + channel * strides.channel;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS) sum_pool(Out<REAL> y, In<REAL> x, Windows s) {
    const long long i = global_thread();
    if (i >= s.size) return;
    const Pixel pixel(i, s.channels, s.height, s.width);
    const long long first = pixel.start(s.x) + pixel.row * s.stride_down * s.x.row +
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
    const Pixel pixel(i, s.channels, s.height, s.width);
    const long long start = pixel.start(s.x);
    long long top, bottom, left, right;
    find_windows(pixel.row, s.kernel_height, s.stride_down, s.rows, top, bottom);
    find_windows(pixel.column, s.kernel_width, s.stride_across, s.columns, left, right);
    REAL total = 0;
    for (long long a = bottom; a >= top; --a)
        for (long long b = right; b >= left; --b)
            total += g[start + a * s.x.row + b * s.x.column];
    y[i] = total;
}

// ---------------------------------------------------------------------------------------- maxima
struct MaxWindows {
    long long size;                     // elements of y
    long long channels, height, width;  // of the image `by`
    long long rows, columns;            // the number of windows
    long long kernel_height, kernel_width, stride_down, stride_across;
    long long padding_above, padding_left;
    ImageStrides x, by;                 // of the two inputs
};

// Return row * width + column of the pixel of window (a, b) at which `by`, a plane that begins at
// `start`, is largest: of the first of equal maxima, and of the last NaN.
__device__ __forceinline__ long long find_maximum(const In<REAL>& by, long long start,
                                                  const MaxWindows& s, long long a, long long b) {
    const long long top = a * s.stride_down - s.padding_above;
    const long long left = b * s.stride_across - s.padding_left;
    const long long bottom = top + s.kernel_height, right = left + s.kernel_width;
    const long long row = top > 0 ? top : 0, column = left > 0 ? left : 0;
    REAL best = by[start + row * s.by.row + column * s.by.column];
    long long pixel = row * s.width + column;
    for (long long h = row; h < (bottom < s.height ? bottom : s.height); ++h)
        for (long long v = column; v < (right < s.width ? right : s.width); ++v) {
            const REAL value = by[start + h * s.by.row + v * s.by.column];
            if (value > best || value != value) best = value, pixel = h * s.width + v;
        }
    return pixel;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    max_pool(Out<REAL> y, In<REAL> x, In<REAL> by, MaxWindows s) {
    const long long i = global_thread();
    if (i >= s.size) return;
    const Pixel window(i, s.channels, s.rows, s.columns);
    long long column = find_maximum(by, window.start(s.by), s, window.row, window.column);
    const long long row = divide_with_remainder(column, s.width);
    y[i] = x[window.start(s.x) + row * s.x.row + column * s.x.column];
}

// With a least number of blocks (3) the compiler may use 80 registers; at 64 float64 would spill.
extern "C" __global__ void __launch_bounds__(THREADS, 3)
    max_pool_grad(Out<REAL> y, In<REAL> g, In<REAL> by, MaxWindows s) {
    const long long i = global_thread();
    if (i >= s.size) return;
    const Pixel pixel(i, s.channels, s.height, s.width);
    const long long g_start = pixel.start(s.x), by_start = pixel.start(s.by);
    long long top, bottom, left, right;
    find_windows(pixel.row + s.padding_above, s.kernel_height, s.stride_down, s.rows, top, bottom);
    find_windows(pixel.column + s.padding_left, s.kernel_width, s.stride_across, s.columns, left,
                 right);
    REAL total = 0;
    for (long long a = top; a <= bottom; ++a)
        for (long long b = left; b <= right; ++b)
            if (find_maximum(by, by_start, s, a, b) == pixel.row * s.width + pixel.column)
                total += g[g_start + a * s.x.row + b * s.x.column];
    y[i] = total;
}

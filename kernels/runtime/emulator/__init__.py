"""Compile CUDA C++ kernels with g++ and run them on the CPU."""

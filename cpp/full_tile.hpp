// The shape of the tiles that products with full covariances are made of.
//
// What a product with Eigen costs beside the arithmetic, packing both operands, is here done once for a triangle or
// together with gathering the samples; and only the tiles that touch the diagonal do needless work. GFLOP/s of one
// thread, gathering included and needless work not counted, beside Eigen 3.4.1 in blocks of 96 rows and 256 samples;
// x86-64-v4, two Zen 5 cores, 2026-11:
//
//                     float64, 8   32 features   float32, 16    64   128   256   784
//     norms,   here           32            72            96   173   194   208   214
//              Eigen           7            30            25    77   103   134   154
//     scatter, here           17            60                 141         191   196
//              Eigen          11            31                  73         114   148
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>

#include "simd.hpp"

namespace convgmm::full {

// The tile of a product: so many rows of a matrix, and up to so many vectors of what it is multiplied with. With more
// vectors the rows are done in parts, since half of the registers hold sums.
inline constexpr std::size_t kTileRows = 8;
inline constexpr std::size_t kTileVectors = simd::kRegisters == 32 ? 4 : 2;
template <std::size_t Vectors>
inline constexpr std::size_t kPartRows = std::min(kTileRows, std::bit_floor(simd::kRegisters / 2 / Vectors));

// Samples whose coordinates are gathered for one product.
template <class T>
inline constexpr std::size_t kGroup = kTileVectors * simd::kLanes<T>;

}  // namespace convgmm::full

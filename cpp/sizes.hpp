// Products of sizes that come from outside: what does not fit is an error, never a small number.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <limits>
#include <stdexcept>

namespace convgmm {

// Π sizes. Throws std::length_error when it is beyond `most`; a size of 0 makes the product 0, whatever the others are.
inline std::size_t checked_product(std::initializer_list<std::size_t> sizes,
                                   std::size_t most = std::numeric_limits<std::size_t>::max()) {
  for (const std::size_t size : sizes)
    if (size == 0) return 0;
  std::size_t product = 1;
  for (const std::size_t size : sizes) {
    if (size > most / product) throw std::length_error("an array of this shape is too large");
    product *= size;
  }
  return product;
}

}  // namespace convgmm

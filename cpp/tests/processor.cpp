// Prints the processor's level.
#include <cstdio>

#include "cpu.hpp"

int main() { std::fputs(convgmm::processor_level(), stdout); }

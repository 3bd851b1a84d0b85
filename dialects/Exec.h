// The `exec` dialect in C++: dialects/Exec.td is its specification.
#pragma once

#include "dialects/Llm.h"

#include "mlir/IR/RegionKindInterface.h"

#include "dialects/ExecDialect.h.inc"
#include "dialects/ExecEnums.h.inc"

#define GET_OP_CLASSES
#include "dialects/ExecOps.h.inc"

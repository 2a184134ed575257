#include "trace/trace-block_csv.h"

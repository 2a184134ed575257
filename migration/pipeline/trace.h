#include "trace/trace-migration_pipeline.h"

// The same as JSON: schema pagetrap-collections/1; docs/formats/collections.md has its members.
#pragma once

#include "../text/json_writer.hpp"
#include "heap_trace.hpp"
#include "summary.hpp"

namespace pagetrap::tool {

/// An object. `replay`: null, or which of its cycles page by page.
void write_heap(JsonWriter& json, const HeapTrace& heap, Span watched,
                const CollectionCycle* replay);

}  // namespace pagetrap::tool

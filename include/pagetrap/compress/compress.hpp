// Everything of the room compress.
#pragma once

#include <pagetrap/compress/codec.hpp>
#include <pagetrap/compress/compressed_memory.hpp>
#include <pagetrap/compress/compressed_source.hpp>
#include <pagetrap/compress/page_store.hpp>

// Everything of the room compress.
#pragma once

#include <pagetrap/compress/codec.hpp>
#include <pagetrap/compress/page_store.hpp>

// Concurrent checkpoints: everything of the room. Start reading at checkpointer.hpp.
#pragma once

#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/checkpoint/sink.hpp>

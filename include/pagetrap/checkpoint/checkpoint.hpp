// Concurrent checkpoints: everything of the room. Start reading at checkpointer.hpp.
#pragma once

#include <pagetrap/checkpoint/arena.hpp>
#include <pagetrap/checkpoint/checkpointer.hpp>
#include <pagetrap/checkpoint/image.hpp>
#include <pagetrap/checkpoint/sink.hpp>

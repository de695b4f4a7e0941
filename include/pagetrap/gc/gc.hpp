// All of the collector. heap.hpp is where to start reading.
#pragma once

#include <pagetrap/gc/array.hpp>
#include <pagetrap/gc/heap.hpp>
#include <pagetrap/gc/object.hpp>
#include <pagetrap/gc/options.hpp>
#include <pagetrap/gc/ref.hpp>
#include <pagetrap/gc/root.hpp>
#include <pagetrap/gc/twin.hpp>

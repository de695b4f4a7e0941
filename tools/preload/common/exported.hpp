// What a function that stands in front of another's looks like. exported.map names them too.
#pragma once

#define PAGETRAP_EXPORT extern "C" __attribute__((visibility("default")))

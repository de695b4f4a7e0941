#include <atomic>

// Something that the program changes, so that a page of the library is its own.
extern "C" {
extern int plugin_state;
int plugin_answer(int question);
}
int plugin_state = 41;
static thread_local int asked = 0;
int plugin_answer(int question) { return question + plugin_state + 1000 * asked++; }

# The examples do what they say, here and in the README.

# pagetrap_example_test(NAME COMMAND...)
function(pagetrap_example_test name)
  add_test(NAME examples.${name} COMMAND ${ARGN})
  set_tests_properties(examples.${name} PROPERTIES LABELS examples TIMEOUT 120)
  if(PAGETRAP_SANITIZE MATCHES "address")
    # Our handler must be allowed to replace ASan's.
    set_tests_properties(examples.${name} PROPERTIES
      ENVIRONMENT "ASAN_OPTIONS=allow_user_segv_handler=1:handle_segv=1:detect_leaks=1")
  endif()
endfunction()

pagetrap_example_test(dirty_pages dirty_pages)
pagetrap_example_test(two_views two_views)

# 1 GiB of addresses: under a sanitizer each address has a shadow.
foreach(pages IN ITEMS 1 2 7)
  pagetrap_example_test(sqrt_table.${pages}_pages sqrt_table
    --entries 2^27 --pages ${pages} --threads 4 --seconds 1 --check-resident)
endforeach()
# Eight pages in all, of which three may exist: every page is evicted by one thread while another
# supplies it.
foreach(backend IN ITEMS uffd-inline uffd-thread mprotect)
  pagetrap_example_test(sqrt_table.crowded.${backend} sqrt_table
    --entries 2^12 --pages 3 --threads 8 --seconds 2 --check-resident --backend ${backend})
  # 3: the system refuses, as where userfaultfd is forbidden.
  set_tests_properties(examples.sqrt_table.crowded.${backend} PROPERTIES SKIP_RETURN_CODE 3)
endforeach()
pagetrap_example_test(sqrt_table.explained sqrt_table
  --entries 2^27 --pages 1 --threads 1 --seconds 0.05 --explain)
set_tests_properties(examples.sqrt_table.explained PROPERTIES PASS_REGULAR_EXPRESSION
  "fault 0x[0-9a-f]+  page [0-9]+  evicted page [0-9]+  [0-9]+\\.[0-9] us.*all values right")
pagetrap_example_test(sqrt_table.usage sqrt_table --pages 0)
set_tests_properties(examples.sqrt_table.usage PROPERTIES PASS_REGULAR_EXPRESSION
  "--pages cannot be 0.*usage: sqrt_table")
if(NOT PAGETRAP_SANITIZE)
  # A sanitizer maps memory of its own all the time, and far more than the table's addresses.
  pagetrap_example_test(sqrt_table.limited_memory sqrt_table
    --entries 2^27 --pages 1 --threads 4 --seconds 1 --check-resident --limit-memory)
  pagetrap_example_test(sqrt_table.whole_tebibyte sqrt_table --pages 3 --threads 4 --seconds 0.5)
endif()

if(TARGET text_index)
  pagetrap_example_test(text_index text_index --megabytes 4 --seconds 1.5 --every 300)
  pagetrap_example_test(text_index.crash text_index --megabytes 4 --every 200 --crash)
  set_tests_properties(examples.text_index.crash PROPERTIES PASS_REGULAR_EXPRESSION
    "SIGKILL +in the middle.*lazily.*: 0 differences.*eagerly.*: 0 differences.*verdict +the restored")
  pagetrap_example_test(text_index.compare text_index --megabytes 2 --compare)
  pagetrap_example_test(text_index.usage text_index --megabytes 0)
  set_tests_properties(examples.text_index.usage PROPERTIES PASS_REGULAR_EXPRESSION
    "usage: text_index")
endif()

if(TARGET word_store)
  # One after the other: the second goes on where the first was killed.
  set(words "${CMAKE_CURRENT_BINARY_DIR}/words.store")
  add_test(NAME examples.word_store.new COMMAND "${CMAKE_COMMAND}" -E rm -f "${words}")
  pagetrap_example_test(word_store.kill word_store "${words}" --megabytes 1 --kill 3)
  pagetrap_example_test(word_store word_store "${words}" --megabytes 1)
  pagetrap_example_test(word_store.prove word_store "${words}" --megabytes 1 --prove)
  # The same store, and text that it is not of.
  pagetrap_example_test(word_store.other_text word_store "${words}" --megabytes 2 --prove)
  pagetrap_example_test(word_store.usage word_store --kill 0)
  set_tests_properties(examples.word_store.kill PROPERTIES PASS_REGULAR_EXPRESSION
    "SIGKILL +in a commit.*: 0 differences.*verdict +each time exactly the committed")
  set_tests_properties(examples.word_store PROPERTIES PASS_REGULAR_EXPRESSION
    "found +[1-9][0-9]* of.*indexed")
  set_tests_properties(examples.word_store.prove PROPERTIES PASS_REGULAR_EXPRESSION
    ": 0 differences.*verdict +the index is that of the text")
  set_tests_properties(examples.word_store.other_text PROPERTIES PASS_REGULAR_EXPRESSION
    "another text's index")
  set_tests_properties(examples.word_store.usage PROPERTIES PASS_REGULAR_EXPRESSION
    "usage: word_store")
  set_tests_properties(examples.word_store.new PROPERTIES FIXTURES_SETUP words_new LABELS examples)
  set_tests_properties(examples.word_store.kill PROPERTIES
    FIXTURES_REQUIRED words_new FIXTURES_SETUP words_killed)
  set_tests_properties(examples.word_store PROPERTIES
    FIXTURES_REQUIRED words_killed FIXTURES_SETUP words_there)
  set_tests_properties(examples.word_store.prove examples.word_store.other_text PROPERTIES
    FIXTURES_REQUIRED words_there)
endif()

if(TARGET live_index)
  pagetrap_example_test(live_index live_index --megabytes 1 --readers 2)
  pagetrap_example_test(live_index.mprotect live_index --megabytes 1 --supply mprotect)
  set_tests_properties(examples.live_index examples.live_index.mprotect PROPERTIES
    PASS_REGULAR_EXPRESSION "cycles +[1-9].*answers +0 wrong.*: 0 differences.*verdict +every answer")
  pagetrap_example_test(live_index.usage live_index --supply magic)
  set_tests_properties(examples.live_index.usage PROPERTIES PASS_REGULAR_EXPRESSION
    "usage: live_index")
endif()

if(TARGET reply_cache)
  pagetrap_example_test(reply_cache reply_cache)
  set_tests_properties(examples.reply_cache PROPERTIES PASS_REGULAR_EXPRESSION
    "20000 requests answered, 0 wrong")
  pagetrap_example_test(reply_cache.usage reply_cache --bug none)
  set_tests_properties(examples.reply_cache.usage PROPERTIES PASS_REGULAR_EXPRESSION
    "usage: reply_cache")
endif()

add_test(NAME examples.readme_quotes COMMAND "${CMAKE_COMMAND}"
  -D "ROOT=${PROJECT_SOURCE_DIR}" -P "${CMAKE_CURRENT_SOURCE_DIR}/check_quotes.cmake")
set_tests_properties(examples.readme_quotes PROPERTIES LABELS examples TIMEOUT 20)

if(TARGET stale_pointer AND NOT PAGETRAP_SANITIZE)
  # It ends by SIGSEGV, as it should.
  pagetrap_example_test(stale_pointer sh -c "! $<TARGET_FILE:stale_pointer>")
  set_tests_properties(examples.stale_pointer PROPERTIES
    PASS_REGULAR_EXPRESSION "0 of them wrong.*read of a destroyed object: .* 8 bytes into the Entry")
endif()

# What the programs of the soak do: read by `run`. For each, a function that sets `words` (the
# command), and `input` (its standard input, or empty), and may put files into the current directory.
# All of a program's output is what it leaves there and on its standard output. With $size 1 each
# takes seconds, with 0 less.
# shellcheck disable=SC2034  # words and input are for `run`

# Not in PATH, where wrappers come first that start something else.
find_program() {
  local folder
  for folder in /usr/bin /bin /usr/local/bin; do
    if [[ -x "$folder/$1" ]]; then
      echo "$folder/$1"
      return
    fi
  done
  command -v "$1" || { echo "$1 is not installed" >&2; return 1; }
}

pick() { if ((size == 1)); then echo "$2"; else echo "$1"; fi; }

# A text that compresses as texts do.
make_text() {
  awk -v lines="$1" 'BEGIN {
    s = 7
    for (n = 1; n <= lines; ++n) {
      line = ""
      for (i = 0; i < 8; ++i) { s = (s * 16807) % 2147483647; line = line sprintf("%x ", s % 4001) }
      print line
    }
  }'
}

# Functions that an optimiser has to do something about.
make_source() {
  awk -v functions="$1" 'BEGIN {
    for (f = 0; f < functions; ++f) {
      printf "int f%d(int *a, int n, unsigned s) {\n  int t = %d;\n", f, f
      for (i = 0; i < 12; ++i) {
        printf "  for (int i = %d; i < n; i += %d) {\n", i, 1 + (f + i) % 5
        printf "    s = s * %uu + %du;\n", 1664525 + 2 * f, i
        printf "    if ((s >> %d) & 1) t += a[i] * %d; else a[i] ^= t - (int)s;\n  }\n", (f + i) % 29, f % 97
      }
      print "  return t;\n}"
    }
  }'
}

setup_python3() { words=("$(find_program python3)" "$programs/python3.py" "$(pick 16 80)"); }
setup_perl() { words=("$(find_program perl)" "$programs/perl.pl" "$(pick 10 50)"); }
setup_sqlite3() {
  words=("$(find_program sqlite3)" :memory:)
  input="$programs/sqlite3.sql"
}
# Files that a program removes at its end would be missing when it is killed just then.
setup_gzip() {  # from file to file
  cp "$text" text
  words=("$(find_program gzip)" -9 -n -k text)
}
setup_gzip_stdio() {
  words=("$(find_program gzip)" -9 -n -c)
  input="$text"
}
setup_xz() {
  head -c "$(pick 1000000 3000000)" "$text" >text
  words=("$(find_program xz)" -6 -k text)
}
setup_xz_threads() {
  head -c 3000000 "$text" >../text_for_xz
  words=("$(find_program xz)" -3 -T 3 --block-size=250000 -c)
  input=../text_for_xz
}
setup_bc() {
  { echo "steps = $(pick 16 28)"; cat "$programs/bc.bc"; } >../bc_input
  words=("$(find_program bc)")
  input=../bc_input
}
setup_octave() { words=("$(find_program octave-cli)" --norc --no-history "$programs/octave.m" "$(pick 8 30)"); }
setup_cc1() {
  make_source "$(pick 60 300)" >source.c
  words=("$(gcc -print-prog-name=cc1)" -quiet -O2 source.c -o source.s)
  [[ -x "${words[0]}" ]] || { echo "cc1 is not installed" >&2; return 1; }
}
setup_lua() { words=("$(find_program lua5.4)" "$programs/lua5.4.lua" "$(pick 10 40)"); }
setup_mawk() { words=("$(find_program mawk)" -v "steps=$(pick 14000 60000)" -f "$programs/awk.awk" "$text"); }
setup_gawk() { words=("$(find_program gawk)" -v "steps=$(pick 14000 90000)" -f "$programs/awk.awk" "$text"); }
setup_solver() { words=("$solver" "$(pick 1000 4000)"); }
setup_openssl() {
  words=("$(find_program openssl)" enc -aes-256-cbc -pbkdf2 -iter "$(pick 1000000 4000000)"
    -S 0011223344556677 -pass pass:x -in "$text" -out text.enc)
}

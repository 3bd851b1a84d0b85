# Shared by tools/quickstart and tools/check: step headings with the time elapsed, and the one way to configure a build
# folder. Sourced, from the repository's root.

steps_started=$SECONDS
steps_current="starting"

# step TEXT: a heading.
step() {
  steps_current=$1
  printf '\n[%3d s] %s\n' $((SECONDS - steps_started)) "$1"
}

# On failure name the step that failed; on Ctrl-C leave at once, with one message. What a step writes is either complete
# or under a name that the next run does not look at, so it can simply be run again.
steps_at_exit() {
  local status=$?
  if ((status == 130)); then
    printf '\n%s: interrupted while: %s; run it again to go on from there\n' "${0##*/}" "$steps_current" >&2
  elif ((status != 0)); then
    printf '\n%s: failed (exit code %d) while: %s\n' "${0##*/}" "$status" "$steps_current" >&2
  fi
}
trap steps_at_exit EXIT
trap 'exit 130' INT TERM

# configure FOLDER [CMAKE OPTION]...: (re)configures only when there is something new to say; ninja sees to the rest.
configure() {
  local folder=$1
  shift
  local options=(-DCMAKE_C_COMPILER=clang-22 -DCMAKE_CXX_COMPILER=clang++-22
    -DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=lld -DCMAKE_SHARED_LINKER_FLAGS=-fuse-ld=lld "$@")
  if command -v ccache >/dev/null; then
    options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  fi
  if [[ -f $folder/build.ninja && $(cat "$folder/configured-with" 2>/dev/null) == "${options[*]}" ]]; then
    return 0
  fi
  mkdir -p "$folder"
  if ! cmake -G Ninja -S . -B "$folder" "${options[@]}" >"$folder/configure.log" 2>&1; then
    cat "$folder/configure.log" >&2
    return 1
  fi
  echo "${options[*]}" >"$folder/configured-with"
}

# build FOLDER [TARGET]...: ninja, with its progress on one line where there is a terminal, and every tenth part of the
# way elsewhere so that a log stays short.
build() {
  local folder=$1
  shift
  if [[ -t 1 ]]; then
    ninja -C "$folder" "$@"
  else
    NINJA_STATUS='[%f/%t] ' ninja -C "$folder" "$@" | {
      # Not awk: Debian's mawk waits for a full buffer of input.
      local line shown=0
      while IFS= read -r line; do
        if [[ $line =~ ^\[([0-9]+)/([0-9]+)\]\  ]]; then
          local part=$((10 * BASH_REMATCH[1] / BASH_REMATCH[2]))
          ((part == shown)) || echo "${BASH_REMATCH[0]}"
          shown=$part
        else
          printf '%s\n' "$line"
        fi
      done
    }
  fi
}

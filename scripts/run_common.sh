# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash  # sourced by the scripts that start a run
# Shared by these scripts: --help, quoting for Hydra's overrides, rules for a run's name, the environment.

# refuse MESSAGE: ends the run with an error; runs ON_END as for any other end (co_rewarding/training/on_end.py)
refuse() {
  printf 'error: %s\n' "$*" >&2
  [[ -z ${ON_END:-} ]] || env -u ON_END -u RUN_NAME EXIT_CODE=2 RUN_DIR= bash -c "$ON_END" ON_END 2 || true
  exit 2
}

# answer_help "$@": for -h or --help prints the script's head and its settings, read from its own lines
answer_help() {
  [[ ${1:-} == -h || ${1:-} == --help ]] || return 0
  local text
  text=$(sed -nE -e '1,2d; /^exec /q; /shellcheck/d; /^$/p; s/^# ?//p' \
    -e 's/^(export )?([A-Z0-9_]+)=\$\{\2:?-([^}]*)\} *(#.*)?$/\2=\3\t\4/p' "$0" | cat -s)
  awk -F '\t' 'NF > 1 { printf $2 == "" ? "  %s\n" : "  %-50s %s\n", $1, $2; above = 1; next }
    { if (above) print ""; above = 0; print }' <<<"${text//\$ROOT/"$ROOT"}" 2>/dev/null || true # a pager that was closed
  exit 0
}

# check_text NAME…: expands ~ in the variables' values and refuses text that no configuration can hold
check_text() {
  local name value LC_ALL=C
  for name; do
    value=${!name}
    [[ $value != *[[:cntrl:]]* ]] || refuse "$name=${value@Q}: has a line break or another control character; rename it"
    # shellcheck disable=SC2016
    [[ $value != *'${'* ]] || refuse "$name=$value: has \${, which the configuration reads as a reference to a value; rename it"
    if [[ $value =~ ^~(/|$) ]]; then printf -v "$name" %s "$HOME${value:1}"; fi
  done
}

# check_name NAME…: the variables' values, if any, must be names of folders below another one
check_name() {
  local name value LC_ALL=C
  for name; do
    value=${!name}
    [[ -n $value ]] || continue
    case /$value/ in
      *//* | */./* | */../* | /~*) refuse "$name=$value: must name a folder below runs/, without . or .. and no full path" ;;
    esac
    ((${#value} <= 200)) || refuse "$name=${value:0:40}…: has ${#value} bytes; at most 200"
  done
  check_text "$@"
}

# quoted VALUE: as text of an override; a backslash is literal there, unless a quote or the end follows
quoted() { printf "'%s'" "$(printf %s "$1" | LC_ALL=C sed -E "s/(\\\\*)'/\\1\\1\\\\'/g; s/(\\\\+)\$/\\1\\1/")"; }

# quote NAME…: turns the variables' values into text of an override: Hydra would read 2024_11_26 as a number
quote() {
  local name
  check_text "$@"
  for name; do printf -v "$name" %s "$(quoted "${!name}")"; done
}

# quote_files NAME…: the same for a file or a list of files, [a.parquet,b c.parquet], unless a file has that name.
# A list with quotes in it is Hydra's: ['a,b.parquet',c.parquet]. No file is null.
quote_files() {
  local name value file files
  for name; do
    value=${!name}
    if [[ -z $value ]]; then
      printf -v "$name" null
    elif [[ $value != "["*"]" || -e $value ]]; then
      quote "$name"
    elif [[ $value != *[\'\"]* ]]; then
      IFS=, read -ra files <<<"${value:1:-1}"
      value=""
      for file in "${files[@]}"; do
        read -r file <<<"$file" # without the space around it
        check_text file
        value+=,$(quoted "$file")
      done
      printf -v "$name" '[%s]' "${value:1}"
    fi
  done
}

# vote_of METHOD: prints the vote among the terms of METHOD, nothing if there is none
vote_of() {
  local votes='co_rewarding_I{1,3}|co_rewarding_I_same_wording|majority_voting|majority_voting_both_views'
  [[ "+${1// /}+" =~ [+*]($votes)\+ ]] || return 0
  printf %s "${BASH_REMATCH[1]}"
}

# use_environment: uses the active environment, or the project's
use_environment() {
  if [[ -z ${VIRTUAL_ENV:-} && -f $ROOT/.venv/bin/activate ]]; then
    # shellcheck source=/dev/null
    source "$ROOT/.venv/bin/activate"
  fi
}

# prepare_run: the last step before the program starts
prepare_run() {
  check_name RUN_NAME
  check_text RUNS_DIR
  use_environment
  export CO_REWARDING_RUN_SCRIPT=${BASH_SOURCE[1]} # messages name its variables
}

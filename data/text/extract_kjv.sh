#!/usr/bin/env bash
# Makes kjv.txt from Debian's packages bible-kjv and bible-kjv-text (apt-get install bible-kjv). Nine books are taken,
# about a quarter of the whole. One document per chapter: a heading, then one verse per line; documents are parted by
# a line that holds only "%".
set -euo pipefail
cd "$(dirname "$0")"

books=(Genesis Ruth Psalms Proverbs Matthew Mark Luke John Acts)
last=(Gen50:26 Ruth4:22 Psa150:6 Prov31:31 Matt28:20 Mark16:20 Luke24:53 John21:25 Acts28:31)
first=(Gen1:1 Ruth1:1 Psa1:1 Prov1:1 Matt1:1 Mark1:1 Luke1:1 John1:1 Acts1:1)

for i in "${!books[@]}"; do
  # One verse per line, such as "Gen1:1 In the beginning ..."; the program also writes empty lines.
  bible -f "${first[$i]}-${last[$i]}" </dev/null | awk -v book="${books[$i]}" '
    NF == 0 { next }
    {
      if (!match($0, /^[A-Za-z0-9]+[0-9]+:[0-9]+ /)) { print "unexpected line: " $0 > "/dev/stderr"; exit 1 }
      reference = substr($0, 1, RLENGTH - 1)
      verse = substr($0, RLENGTH + 1)
      sub(/ +$/, "", verse)
      chapter = reference
      sub(/:.*/, "", chapter)
      sub(/^.*[^0-9]/, "", chapter)
      if (chapter != previous) print "%\n" book " " chapter
      previous = chapter
      print verse
    }'
done | tail -n +2 > kjv.txt.new
mv kjv.txt.new kjv.txt

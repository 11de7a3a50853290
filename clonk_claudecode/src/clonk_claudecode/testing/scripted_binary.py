"""A scripted binary: a small program that speaks Claude Code's stream-json protocol, for tests of many sessions.

The real binary takes 140 MiB and half a second of processor time to start; this one a shell's 1 MiB and a millisecond,
so that hundreds can run at once. It needs `sh` and asks no model. What it answers, its prompt says:

- `count 100`: a reply of the numbers from 1 to 100, a delta each.
- `count 100 pause 20`: the same, with a hundredth of a second of quiet behind each 20.
- `count 100 gate /path`: the same, but half of it waits until it can read a line from the FIFO at that path.
- Anything else: the reply `yes`.

It keeps no transcript, and knows nothing of tools, permissions and interrupts.
"""

from pathlib import Path
from typing import Final

_PROGRAM: Final = r"""#!/bin/sh
case "$*" in *--version*) echo '2.1.330 (Claude Code)'; exit;; esac

answer() { printf '{"type":"control_response","response":{"subtype":"%s","request_id":"%s"%s}}\n' "$1" "$id" "$2"; }

delta() {
    printf '{"type":"stream_event","uuid":"","parent_tool_use_id":null,"event":{"type":"content_block_delta",%s}}\n' \
        "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"$1\"}"
}

count() { # how many, what happens on the way, its argument
    number=0
    while [ "$number" -lt "$1" ]; do
        number=$((number + 1))
        delta "$number "
        case "$2" in
            pause) [ $((number % $3)) -ne 0 ] || sleep 0.01;;
            gate) [ "$number" -ne $(($1 / 2)) ] || read -r _ <"$3" || :;;
        esac
    done
}

numbers() {
    number=0
    while [ "$number" -lt "$1" ]; do number=$((number + 1)); printf '%s ' "$number"; done
}

usage='"usage":{"input_tokens":10,"output_tokens":1}'
while IFS= read -r line; do
    case "$line" in
        *'"type":"control_request"'*)
            id=${line#*\"request_id\":\"}; id=${id%%\"*}
            case "$line" in
                *'"subtype":"get_usage"'*) answer error ',"error":"unknown"';;
                *) answer success ',"response":{}';;
            esac;;
        *'"type":"user"'*)
            prompt=${line#*\"content\":\"}; prompt=${prompt%%\"*}
            id=${line#*\"uuid\":\"}; id=${id%%\"*}; id=${id#????????}
            message="\"id\":\"msg$id\",\"role\":\"assistant\",\"model\":\"scripted\",$usage"
            printf '{"type":"stream_event","uuid":"","parent_tool_use_id":null,"event":%s}\n' \
                "{\"type\":\"message_start\",\"message\":{$message}}"
            case "$prompt" in
                count\ *) words=${prompt#count }; count $words;;
                *) words=; delta yes;;
            esac
            printf '{"type":"assistant","uuid":"a5515700%s","parent_tool_use_id":null,"message":{%s,%s' \
                "$id" "$message" '"content":[{"type":"text","text":"'
            [ -n "$words" ] && numbers $words || printf yes
            printf '"}]}}\n{"type":"result","subtype":"success","is_error":false,"result":"","uuid":""}\n';;
    esac
done
"""


def write_scripted_binary(path: Path) -> Path:
    """Write the program to a file and return that; it goes into `claudecode.binary_path`."""
    path.write_text(_PROGRAM, encoding="utf-8")
    path.chmod(0o755)
    return path

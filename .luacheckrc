-- The scripts run inside Valkey and Redis: Lua 5.1 with the server's own globals, and no others.
std = {
  read_globals = {
    "KEYS", "ARGV", "redis", "server", "cjson", "cmsgpack", "bit", "struct",
    "assert", "error", "ipairs", "next", "pairs", "pcall", "select", "tonumber", "tostring", "type", "unpack",
    "math", "string", "table",
  },
}
max_line_length = 160
color = false

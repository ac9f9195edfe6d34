"""Examples for the help of each command."""

EXAMPLES = {
    "init": """\
neo-daemons init --dry-run            show what it would write
neo-daemons init                      write it""",
    "serve": """\
neo-daemons serve                     all daemons, until Ctrl-C
neo-daemons serve --only @db          those of a group, and what they require
neo-daemons serve --require chroma    exit with 5 if chroma cannot run""",
    "up": """\
neo-daemons up                        all daemons, in the background
neo-daemons up api                    api and what it requires
neo-daemons up @db                    the daemons with groups = ["db"]
neo-daemons up --takeover             replace the supervisor, not the daemons""",
    "down": """\
neo-daemons down                      stop everything
neo-daemons down --detach             stop the supervisor only""",
    "status": """\
neo-daemons status --watch            a view that stays open, with keys
neo-daemons status --format openmetrics
neo-daemons status --json | jq -r '.daemons[] | "\\(.name) \\(.state)"'
neo-daemons status --check || exit 1  in a script""",
    "health": """\
neo-daemons health                    all daemons, also without a supervisor
neo-daemons health chroma --wait 30   wait until it is healthy
neo-daemons health --url chroma=http://db.example.org:8000""",
    "start": """\
neo-daemons start api                 also starts what api requires
neo-daemons start @db""",
    "stop": """\
neo-daemons stop api
neo-daemons stop @db --wait 0         do not wait""",
    "restart": """\
neo-daemons restart api
neo-daemons restart migrate           run a oneshot again""",
    "hold": """\
neo-daemons hold chroma               do not restart it when it exits""",
    "release": """\
neo-daemons release chroma""",
    "logs": """\
neo-daemons logs -f                   all daemons, as they write
neo-daemons logs api -n 20
neo-daemons logs @db worker""",
    "events": """\
neo-daemons events -f
neo-daemons events --json -n 1000 | jq 'select(.event == "exit")'""",
    "why": """\
neo-daemons why api""",
    "env": """\
eval "$(neo-daemons env)"             in sh, bash and zsh
neo-daemons env --format fish | source
neo-daemons env chroma --format dotenv > .env""",
    "mcp": """\
neo-daemons mcp                       for an agent: tools that read
neo-daemons mcp --allow-control       and tools that start and stop
neo-daemons mcp connect browser       in place of the MCP server browser""",
    "exec": """\
neo-daemons exec -- pytest            with all daemons
neo-daemons exec --with chroma -- python load.py
neo-daemons exec --isolated -- make test""",
    "render": """\
neo-daemons render compose -o deploy
neo-daemons render kubernetes -o deploy --check   in CI""",
    "schema": """\
neo-daemons schema -o neo-daemons.schema.json
neo-daemons schema --pyproject -o pyproject.schema.json""",
    "completion": """\
eval "$(neo-daemons completion bash)"        in ~/.bashrc
eval "$(neo-daemons completion zsh)"         in ~/.zshrc, after compinit
neo-daemons completion fish > ~/.config/fish/completions/neo-daemons.fish""",
    "reload": """\
neo-daemons reload --dry-run          what would change
neo-daemons reload""",
    "snapshot": """\
neo-daemons snapshot chroma
neo-daemons snapshot chroma chroma.snapshot""",
    "restore": """\
neo-daemons restore chroma chroma.snapshot""",
    "doctor": """\
neo-daemons doctor
neo-daemons doctor --tests            what a test run cannot isolate""",
    "reap": """\
neo-daemons reap""",
    "enable": """\
neo-daemons enable --dry-run          show the file and the commands
neo-daemons enable --env OPENAI_API_KEY""",
    "disable": """\
neo-daemons disable""",
    "sessions": """\
neo-daemons sessions
neo-daemons sessions --end            end all""",
}
"""Command → lines of examples."""

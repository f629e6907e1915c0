// Command gateway is Doorstep: a live-journey location gateway over plain HTTP.
// README.md shows what it does; `gateway --help` lists every command, and
// `gateway serve --help` every setting.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/agnivade/levenshtein"
)

// version is set by the linker.
var version = "dev"

// prefix begins the name of every environment variable of Doorstep.
const prefix = "DOORSTEP_"

// command is one command of the program. Its settings are the fields of its
// runner.
type command struct {
	name, help string
	runner
}

type runner interface {
	Run(ctx context.Context) error
}

func commands() []command {
	return []command{
		{"serve", "Run the service (the default).", new(serveCommand)},
		{"demo", "Play journeys through an embedded service, and watch them in the terminal.", new(demoCommand)},
		{"migrate", "Bring the database's schema up to the version of this binary.", new(migrateCommand)},
		{"token", "Print a token that is signed with the configured secret.", new(tokenCommand)},
		{"health", "Exit 0 when a gateway, or a worker, answers that it is well.", new(healthCommand)},
		{"worker", "Consume the events from their queues: pushes, clean-up, analytics.", new(workerCommand)},
		{"outbox list", "List the dead letters: events whose delivery was given up, with the reason.", new(outboxListCommand)},
		{"outbox requeue", "Queue dead letters again, so that they are delivered.", new(outboxRequeueCommand)},
	}
}

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	all := commands()
	c, args, err := choose(all, args)
	if err != nil {
		return failed(2, err)
	}
	if c == nil {
		usage(os.Stdout, all)
		return 0
	}
	settings := settingsOf(c.runner)
	switch {
	case slices.Contains(args, "--version"):
		fmt.Println(version)
		return 0
	case slices.Contains(args, "--help") || slices.Contains(args, "-h"):
		c.usage(os.Stdout, settings)
		return 0
	}
	if err := settings.fill(args, os.LookupEnv); err != nil {
		return failed(2, err)
	}
	if err := unknownSettings(all, os.Environ()); err != nil {
		return failed(2, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := c.Run(ctx); err != nil {
		return failed(1, err)
	}
	return 0
}

func failed(code int, err error) int {
	fmt.Fprintln(os.Stderr, "gateway:", err)
	return code
}

// choose returns the command whose name args begin with, and the arguments
// after the name. If args are empty or begin with a flag, the command is
// serve. It is nil for --help alone: then run lists the commands.
func choose(all []command, args []string) (*command, []string, error) {
	if len(args) > 0 && (args[0] == "--help" || args[0] == "-h") {
		return nil, nil, nil
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return &all[0], args, nil
	}
	for i, c := range all {
		if words := strings.Fields(c.name); len(args) >= len(words) && slices.Equal(args[:len(words)], words) {
			return &all[i], args[len(words):], nil
		}
	}
	return nil, nil, fmt.Errorf("no command %q (gateway --help lists them)", args[0])
}

func usage(w io.Writer, all []command) {
	fmt.Fprint(w, "Usage: gateway <command> [flags]\n\n"+
		"Doorstep: a live-journey location gateway. Every flag of serve and worker can also be set by an environment variable.\n\nCommands:\n")
	for _, c := range all {
		fmt.Fprintf(w, "  %-16s%s\n", c.name, c.help)
	}
	fmt.Fprint(w, "\n\"gateway <command> --help\" lists the flags of a command, \"gateway --version\" prints the version.\n")
}

func (c *command) usage(w io.Writer, settings settings) {
	fmt.Fprintf(w, "Usage: gateway %s [flags]\n\n%s\n\nFlags:\n%s", c.name, c.help, settings.FlagUsagesWrapped(120))
}

// unknownSettings returns an error for a DOORSTEP_ variable that no command
// reads, with the nearest name of one that is read. Without it a typo in a name would
// silently leave the default in force. Kubernetes adds variables to every container of
// a namespace in which a service is called doorstep-…; they are passed over.
func unknownSettings(all []command, environ []string) error {
	var known []string
	for _, c := range all {
		for _, tag := range settingsOf(c.runner).tags {
			if tag.Get("env") != "" {
				known = append(known, tag.Get("env"))
			}
			if _, secret := tag.Lookup("secret"); secret {
				known = append(known, tag.Get("env")+inFile)
			}
		}
	}
	var unknown []string
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, prefix) && !slices.Contains(known, name) && !slices.Contains(testSettings, name) && !serviceLink.MatchString(name) {
			nearest := slices.MinFunc(known, func(a, b string) int {
				return levenshtein.ComputeDistance(name, a) - levenshtein.ComputeDistance(name, b)
			})
			unknown = append(unknown, name+" (nearest: "+nearest+")")
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("unknown settings: %s (gateway serve --help lists them)", strings.Join(unknown, ", "))
	}
	return nil
}

// serviceLink matches the variables that Kubernetes makes of a service's name.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)$`)

// testSettings are read by the tests, not by the program.
var testSettings = []string{prefix + "REQUIRE_SERVERS", prefix + "LONG", prefix + "TRACES"}

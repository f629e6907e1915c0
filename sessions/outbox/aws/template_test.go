package aws_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"doorstep/sessions"
	"doorstep/sessions/outbox/aws"
)

// template is deploy/aws/doorstep.yaml. CloudFormation's functions are tags,
// which its values keep: a scalar !Ref is the text "!Ref Name".
type template struct {
	Parameters map[string]map[string]any `yaml:"Parameters"`
	Conditions map[string]any            `yaml:"Conditions"`
	Resources  map[string]resource       `yaml:"Resources"`
	Outputs    map[string]any            `yaml:"Outputs"`
	refs       []string                  // all that is referred to
}

type resource struct {
	Type       string         `yaml:"Type"`
	Properties map[string]any `yaml:"Properties"`
}

func parseTemplate(t *testing.T, text []byte) template {
	t.Helper()
	var doc yaml.Node
	require.NoError(t, yaml.Unmarshal(text, &doc))
	var out template
	out.flatten(&doc)
	require.NoError(t, doc.Decode(&out))
	return out
}

var substitution = regexp.MustCompile(`\$\{([^}]+)\}`)

// flatten notes what a function refers to, and takes its tag down to text that
// any decoder reads.
func (f *template) flatten(n *yaml.Node) {
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		switch n.Tag {
		case "!Ref", "!Condition":
			f.refs = append(f.refs, n.Value)
		case "!GetAtt":
			name, _, _ := strings.Cut(n.Value, ".")
			f.refs = append(f.refs, name)
		case "!Sub":
			for _, m := range substitution.FindAllStringSubmatch(n.Value, -1) {
				f.refs = append(f.refs, m[1])
			}
		case "!If":
			f.refs = append(f.refs, n.Content[0].Value)
		}
		if n.Kind == yaml.ScalarNode {
			n.Value = n.Tag + " " + n.Value
			n.Tag = "!!str"
		} else {
			n.Tag = "!!seq"
		}
	}
	for _, child := range n.Content {
		f.flatten(child)
	}
}

func (f template) of(kind string) (names []string) {
	for name, r := range f.Resources {
		if r.Type == kind {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// lint lists what is wrong with a template.
func (f template) lint() (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, ref := range f.refs {
		_, resource := f.Resources[ref]
		_, parameter := f.Parameters[ref]
		_, condition := f.Conditions[ref]
		if !resource && !parameter && !condition && !strings.HasPrefix(ref, "AWS::") {
			say("%s is referred to and not there", ref)
		}
	}
	for name, r := range f.Resources {
		if document, ok := r.Properties["PolicyDocument"].(map[string]any); ok {
			for _, s := range document["Statement"].([]any) {
				statement := s.(map[string]any)
				if statement["Effect"] == "Deny" {
					continue
				}
				for _, field := range []string{"Action", "Resource", "Principal"} {
					if strings.Contains(fmt.Sprint(statement[field]), "*") {
						say("%s: %s has a *", name, field)
					}
				}
				if r.Type == "AWS::SQS::QueuePolicy" && !strings.Contains(fmt.Sprint(statement["Condition"]), "aws:SourceArn:!GetAtt") {
					say("%s: anybody's rule may send", name)
				}
			}
		}
		if r.Type == "AWS::Events::Rule" {
			wrong = append(wrong, lintRule(name, r.Properties)...)
		}
	}
	return wrong
}

func lintRule(name string, properties map[string]any) (wrong []string) {
	pattern := properties["EventPattern"].(map[string]any)
	if source := fmt.Sprint(pattern["source"]); source != fmt.Sprint([]any{aws.Source}) {
		wrong = append(wrong, fmt.Sprintf("%s: source is %s", name, source))
	}
	for _, detailType := range pattern["detail-type"].([]any) {
		if !slices.Contains(sessions.EventTypes(), sessions.EventType(detailType.(string))) {
			wrong = append(wrong, fmt.Sprintf("%s: nobody sends %s", name, detailType))
		}
	}
	return wrong
}

func readTemplate(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/aws/doorstep.yaml")
	require.NoError(t, err)
	return text
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	f := parseTemplate(t, readTemplate(t))
	assert.Empty(t, f.lint())
	assert.Greater(t, len(f.refs), 50)

	assert.Equal(t, applicationEvents, f.Parameters["BusName"]["Default"])
	require.Len(t, f.of("AWS::SQS::Queue"), 6)
	for _, rule := range f.of("AWS::Events::Rule") {
		name := strings.TrimSuffix(rule, "Rule")
		queue := f.Resources[name+"Queue"]
		require.NotEmpty(t, queue.Type, name)
		target := f.Resources[rule].Properties["Targets"].([]any)[0].(map[string]any)
		assert.Equal(t, "!GetAtt "+name+"Queue.Arn", target["Arn"])
		redrive := queue.Properties["RedrivePolicy"].(map[string]any)
		assert.Equal(t, "!GetAtt "+name+"DeadLetters.Arn", redrive["deadLetterTargetArn"])
		policy := fmt.Sprint(f.Resources[name+"QueuePolicy"].Properties)
		assert.Contains(t, policy, "aws:SourceArn:!GetAtt "+rule+".Arn")
		assert.Contains(t, policy, "aws:SecureTransport:false", "nobody without TLS")
		for _, alarm := range []string{"DeadLettersAlarm", "AgeAlarm", "FailedAlarm"} {
			assert.Equal(t, "AWS::CloudWatch::Alarm", f.Resources[name+alarm].Type, name+alarm)
		}
	}
	analytics := f.Resources["AnalyticsRule"].Properties["EventPattern"].(map[string]any)
	assert.Len(t, analytics["detail-type"], len(sessions.EventTypes()), "it hears of all there is")
}

// A lint that finds nothing is only worth something if it can find.
func TestTemplate_lint_finds(t *testing.T) {
	t.Parallel()
	for want, change := range map[string][2]string{
		"CleanUpDeadLetterz is referred to and not there": {"!GetAtt CleanUpDeadLetters.Arn, maxReceiveCount", "!GetAtt CleanUpDeadLetterz.Arn, maxReceiveCount"},
		"MakeBuss is referred to and not there":           {"!If [MakeBus,", "!If [MakeBuss,"},
		"BusNam is referred to and not there":             {"event-bus/${BusName}", "event-bus/${BusNam}"},
		"GatewayPolicy: Action has a *":                   {"Action: events:PutEvents", "Action: events:*"},
		"WorkerPolicy: Action has a *":                    {"sqs:ReceiveMessage", "sqs:*"},
		"CleanUpRule: nobody sends TrainerJourneyEndet":   {"[TrainerJourneyEnded]", "[TrainerJourneyEndet]"},
		"CleanUpRule: source is [else]":                   {"source: [admin-service]\n        detail-type: [TrainerJourneyEnded]", "source: [else]\n        detail-type: [TrainerJourneyEnded]"},
		"CleanUpQueuePolicy: anybody's rule may send":     {"Condition: { ArnEquals: { \"aws:SourceArn\": !GetAtt CleanUpRule.Arn } }", "Sid: x"},
	} {
		text := strings.Replace(string(readTemplate(t)), change[0], change[1], 1)
		require.Contains(t, parseTemplate(t, []byte(text)).lint(), want)
	}
}

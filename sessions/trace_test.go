package sessions_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"doorstep/sessions"
	"doorstep/sessions/memory"
)

// An event has the trace of the call that raised it, and keeps it on the wire.
func TestWithTrace(t *testing.T) {
	t.Parallel()
	const trace = "1-67891233-abcdef012345678912345678"
	for given, want := range map[string]string{
		trace: trace, "": "", "1-67891233": "", trace + "\n": "", "Root=" + trace: "", "1-6789123G-abcdef012345678912345678": "",
	} {
		v := newVisit(t)
		var raised []sessions.Event
		repo := memory.NewRepository(func(e sessions.Event) { raised = append(raised, e) })
		_, _, err := repo.Create(t.Context(), v.session)
		require.NoError(t, err)
		service := sessions.NewService(repo, v.live, sessions.ServiceOptions{})
		_, err = service.Start(sessions.WithTrace(t.Context(), given), v.trainer, v.session.ID, "")
		require.NoError(t, err)
		require.Len(t, raised, 1)
		require.Equal(t, want, raised[0].Trace)
		parsed, err := sessions.ParseEvent(raised[0].Type, raised[0].Detail())
		require.NoError(t, err)
		require.Equal(t, raised[0], parsed)
		raised[0].Trace = "forged"
		parsed, err = sessions.ParseEvent(raised[0].Type, raised[0].Detail())
		require.NoError(t, err)
		require.Empty(t, parsed.Trace)
	}
}

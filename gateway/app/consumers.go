package app

import "doorstep/sessions/outbox"

// consumers are what handles events in this process when there is no other bus.
func (a *App) consumers() []outbox.Named { return nil }

package sessions_test

import "time"

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

package geo

// paceMS is the memory of the smoothed speed.
const paceMS = 180_000

// keepPace folds one leg into the smoothed speed: a plain mean until paceMS of
// journey have been seen, exponential after. 1 dm/ms is 100 000 mm/s, and every
// product stays below 2^53.
func (t *Track) keepPace(way leg) {
	t.PaceMMS = (t.PaceMMS*t.PacedMS + way.distanceDM*100_000) / (t.PacedMS + way.ms)
	t.PacedMS = min(paceMS, t.PacedMS+way.ms)
}

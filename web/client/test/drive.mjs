// What the tests with a real gateway run in Node and in a page: a student and a phone that tell what they see.
import { JourneyReporter, watchJourney } from "@doorstep/client";

/** Watches, and tells each view, then why it has ended. */
export async function watch(options, tell) {
  try {
    for await (const view of watchJourney(options)) tell({ ...view, problem: view.problem?.name ?? null, fixAgeMs: view.fixAgeMs() });
    tell({ end: null });
  } catch (error) {
    tell({ end: error.code ?? String(error) });
  }
}

/** A phone that runs; it tells each attempt. */
export function phone(options, tell) {
  const reporter = new JourneyReporter({
    ...options,
    onAttempt: ({ fixes, receipt, error }) => tell({ fixes, receipt, error: error && (error.code ?? error.name) }),
  });
  reporter.run().then(() => tell({ end: null }), (error) => tell({ end: error.code ?? String(error) }));
  return reporter;
}

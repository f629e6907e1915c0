// The types that a client generated from gateway/api/openapi.yaml must have, written by hand: which fields are required,
// which may be null, and which codes a failure may carry. A generator that loses one of these does not compile here.

/** What both generated clients are compared with: request bodies, `data` of the successes, and failures. */
export interface Expected {
  start: { travelMode?: Mode | null };
  startBody: Expected["start"] | undefined;
  journey: Journey;
  alreadyStarted: Failure<"JOURNEY_ALREADY_STARTED" | "TRAINER_BUSY" | "WRONG_REGION">;

  fix: ({ sessionId: string } & Sent & Position) | ({ sessionId: string; fixes: Position[] } & Sent);
  judged: Receipt & {
    stale?: true;
    ignored?: "too_soon" | "low_accuracy" | "no_position" | "before_start";
    counts?: Counts;
    malformed?: number[];
  };
  stored: Receipt & { ignored?: "low_accuracy" | "no_position" | "before_start" };
  unstored: { sessionId: string; stored: false; nextUpdateMs: number };
  implausible: Failure<"INVALID_REQUEST" | "IMPLAUSIBLE_SPEED" | "IMPLAUSIBLE_JUMP">;
  tooSoon: Failure<"RATE_LIMITED"> & RetryAfter;

  liveQuery: { sessionId: string; wait?: number };
  liveHeaders: { "If-None-Match"?: string } | undefined;
  live: {
    sessionId: string;
    trainerId: string;
    location: {
      latitude: number;
      longitude: number;
      accuracy?: number;
      speed?: number;
      heading?: number;
      timestamp: string;
    } | null;
    isActive: boolean;
    phase: "not_started" | "on_the_way" | "arriving" | "arrived" | "ended";
    lastUpdate: string | null;
    fixAgeMs: number | null;
    distanceMeters: number | null;
    etaSeconds: number | null;
    degraded?: true;
  };
  tooManyWaits: Failure<"TOO_MANY_WAITS" | "RATE_LIMITED"> & RetryAfter;

  arrived: { sessionId: string; otp?: string; otpExpiresAt: string; arrivedAt: string };
  arrivalBody: (Partial<Position> & Sent & { sessionId?: string }) | undefined;
  notArrived: Failure<
    "INVALID_REQUEST" | "NOT_WITHIN_RADIUS" | "NO_FRESH_LOCATION" | "SUSPICIOUS_LOCATION" | "IMPLAUSIBLE_SPEED" | "IMPLAUSIBLE_JUMP"
  >;
  arrivalUnchecked: Failure<"LIVE_STORE_UNAVAILABLE" | "DATABASE_UNAVAILABLE" | "KEYS_UNAVAILABLE" | "OVERLOADED"> & RetryAfter;
  stopped: { sessionId: string; stoppedAt: string };

  booking: {
    sessionId?: string | null;
    trainerId: string;
    studentId: string;
    scheduledAt?: string | null;
    studentHome: Place;
    travelMode?: Mode | null;
    region?: string | null;
  };
  rebooking: {
    scheduledAt?: string | null;
    studentHome?: Place | null;
    travelMode?: Mode | null;
    trainerId?: string | null;
    studentId?: string | null;
    region?: string | null;
  };
  booked: Session;
  bookedBefore: Session;
  session: Session;
  sessions: { sessions: Session[]; nextCursor: string | null };
  journeys: { journeys: RunningJourney[]; nextCursor: string | null };
  rating: { average: number | null; count: number };

  otp: { otp: string };
  verified: { sessionId: string; status: "in_progress"; startedAt: string };
  notVerified: Failure<"INVALID_REQUEST" | "OTP_WRONG">;
  locked: Failure<"OTP_LOCKED" | "RATE_LIMITED"> & RetryAfter;
  completed: { sessionId: string; status: "completed"; completedAt: string };

  cancellation: { reason?: string | null };
  cancelled: { sessionId: string; status: "cancelled"; closedAt: string; reason?: string };
  noShow: { sessionId: string; status: "no_show"; closedAt: string };
  notNoShow: Failure<"NOT_PENDING_VERIFICATION" | "NOT_SUPPORTED" | "WRONG_REGION">;
  reviewedBefore: Expected["reviewed"];
  review: { rating: number; comment?: string | null };
  reviewed: {
    sessionId: string;
    rating: number;
    comment?: string;
    reviewedAt: string;
    trainerRating: { average: number; count: number };
  };

  device: { token: string; platform: "android" | "ios" | "web"; language?: string | null; liveActivity?: { sessionId: string; token: string } | null };
  forgottenDevice: { token: string };

  unauthenticated: Failure<"UNAUTHENTICATED">;
  unavailable: Failure<"DATABASE_UNAVAILABLE" | "KEYS_UNAVAILABLE" | "OVERLOADED"> & RetryAfter;
  ready: { success: true; message: "ready"; data: Readiness };
  notReady: { success: false; message: "not ready"; data: Readiness };
}

type Mode = "car" | "bike" | "walk";

interface Place {
  latitude: number;
  longitude: number;
}

interface Position extends Place {
  accuracy?: number | null;
  speed?: number | null;
  heading?: number | null;
  recordedAt?: string | null;
  mock?: boolean | null;
}

interface Counts {
  stored: number;
  stale: number;
  too_soon: number;
  low_accuracy: number;
  no_position: number;
  before_start: number;
  implausible_jump: number;
  implausible_speed: number;
}

interface Sent {
  sentAt?: string | null;
}

interface Journey {
  sessionId: string;
  trainerId: string;
  studentId: string;
  startedAt: string;
}

interface Receipt {
  sessionId: string;
  timestamp: string;
  ttl: number;
  seq: number;
  distanceMeters: number | null;
  arriving: boolean;
  nextUpdateMs: number;
}

interface Session {
  sessionId: string;
  trainerId: string;
  studentId: string;
  status: "scheduled" | "pending_verification" | "in_progress" | "completed" | "cancelled" | "no_show";
  scheduledAt: string | null;
  studentHome: Place | null;
  travelMode: Mode;
  region?: string;
  journeyStartedAt: string | null;
  journeyEndedAt: string | null;
  journeyEndReason?: "arrived" | "cancelled" | "timeout";
  arrivedAt: string | null;
  otp?: string;
  otpState?: "active" | "locked" | "expired";
  otpExpiresAt?: string;
  startedAt: string | null;
  completedAt: string | null;
  closedAt?: string;
  closeReason?: string;
  createdAt: string | null;
}

interface RunningJourney extends Journey {
  travelMode: Mode;
  phase: "on_the_way" | "arriving";
  location: Expected["live"]["location"];
  fixAgeMs: number | null;
  distanceMeters: number | null;
  etaSeconds: number | null;
  silentSeconds: number;
  flags: string[];
  degraded?: true;
}

interface Failure<Code extends string> {
  success: false;
  code: Code;
  message: string;
  field?: string;
  requestId: string;
  retryAfterMs?: number;
  distanceMeters?: number;
  radiusMeters?: number;
  attemptsLeft?: number;
  region?: string;
  url?: string;
  journey?: Journey;
}

interface RetryAfter {
  retryAfterMs: number;
}

interface Readiness {
  tokens: string;
  liveStore: "embedded" | "ok" | "unavailable" | "denied";
  database: "embedded" | "postgres";
  lifecycle: "serving" | "draining";
}

/** The names of the types that a generated client has otherwise than expected. */
export type Different<Generated extends Record<keyof Expected, unknown>> = {
  [Name in keyof Expected]: Same<Generated[Name], Expected[Name]> extends true ? never : Name;
}[keyof Expected];

/** None compiles only for an empty list; else the compiler's error shows the names in it. */
export type None<Names extends never> = Names;

// Two conditional types are the same only if the types they test are identical, optional fields and null included. Plain
// mutual assignability would take an optional field for a required one that may be undefined.
type Same<A, B> = (<T>() => T extends Plain<A> ? 1 : 2) extends <T>() => T extends Plain<B> ? 1 : 2 ? true : false;

// An intersection and the object with the same fields are not identical to the compiler until both are written out.
type Plain<T> = T extends object ? { [Key in keyof T]: Plain<T[Key]> } : T;

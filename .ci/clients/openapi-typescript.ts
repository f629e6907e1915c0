// A program on the types that openapi-typescript generates, with openapi-fetch as the client. Only its types are checked.
import createClient from "openapi-fetch";
import type { Different, None } from "./expected";
import type { components, operations, paths } from "./generated/openapi-typescript";
import { afterRefusal, beforePoll, failure, reported, shown } from "./shared";

type Schemas = components["schemas"];
type JSONOf<T> = T extends { content: { "application/json": infer Body } } ? Body : never;
type Body<Call extends keyof operations> = operations[Call] extends { requestBody?: infer B } ? JSONOf<B> : never;
type Answer<Call extends keyof operations, Status extends keyof operations[Call]["responses"]> =
  JSONOf<operations[Call]["responses"][Status]>;
type Data<Call extends keyof operations, Status extends keyof operations[Call]["responses"]> =
  Answer<Call, Status> extends { success: true; message: string; data: infer D } ? D : never;

interface Generated {
  start: Schemas["Start"];
  startBody: Body<"startJourney"> | (undefined extends operations["startJourney"]["requestBody"] ? undefined : never);
  journey: Data<"startJourney", 201>;
  alreadyStarted: Answer<"startJourney", 409>;
  fix: Body<"updateLocation">;
  judged: Data<"updateLocation", 200>;
  stored: Data<"updateLocation", 201>;
  unstored: Data<"updateLocation", 202>;
  implausible: Answer<"updateLocation", 400>;
  tooSoon: Answer<"updateLocation", 429>;
  liveQuery: operations["readLive"]["parameters"]["query"];
  liveHeaders: operations["readLive"]["parameters"]["header"];
  live: Data<"readLive", 200>;
  tooManyWaits: Answer<"readLive", 429>;
  arrivalBody: Body<"arrive"> | (undefined extends operations["arrive"]["requestBody"] ? undefined : never);
  arrived: Data<"arrive", 200>;
  notArrived: Answer<"arrive", 400>;
  arrivalUnchecked: Answer<"arrive", 503>;
  stopped: Data<"stopJourney", 200>;
  booking: Body<"createSession">;
  rebooking: Body<"changeSession">;
  booked: Data<"createSession", 201>;
  bookedBefore: Data<"createSession", 200>;
  session: Data<"readSession", 200>;
  sessions: Data<"listSessions", 200>;
  journeys: Data<"listJourneys", 200>;
  rating: Data<"readRating", 200>;
  otp: Body<"verifyOTP">;
  verified: Data<"verifyOTP", 200>;
  notVerified: Answer<"verifyOTP", 400>;
  locked: Answer<"verifyOTP", 429>;
  completed: Data<"completeSession", 200>;
  cancellation: Schemas["Cancellation"];
  cancelled: Data<"cancelSession", 200>;
  noShow: Data<"markNoShow", 200>;
  notNoShow: Answer<"markNoShow", 409>;
  review: Body<"reviewSession">;
  reviewed: Data<"reviewSession", 201>;
  reviewedBefore: Data<"reviewSession", 200>;
  device: Body<"putPushToken">;
  forgottenDevice: Body<"deletePushToken">;
  unauthenticated: Answer<"readSession", 401>;
  unavailable: Answer<"readSession", 503>;
  ready: Answer<"readyz", 200>;
  notReady: Answer<"readyz", 503>;
}

export type AsExpected = None<Different<Generated>>;

type Client = ReturnType<typeof createClient<paths>>;

const client = (baseUrl: string, token: string): Client =>
  createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

const base = "http://127.0.0.1:8080";

/** Books a session, starts its journey and returns the session's id. */
export async function book(adminToken: string, trainerToken: string, booking: Schemas["Booking"]): Promise<string> {
  const booked = await client(base, adminToken).POST("/api/v1/admin/sessions", { body: booking });
  if (booked.data === undefined) {
    throw failure(booked.error);
  }
  const { sessionId } = booked.data.data;
  const started = await client(base, trainerToken).POST("/api/v1/admin/sessions/{sessionId}/start-journey", {
    params: { path: { sessionId } },
  });
  if (started.error !== undefined && started.error.code !== "JOURNEY_ALREADY_STARTED") {
    throw failure(started.error);
  }
  return sessionId;
}

/** Sends one fix and returns after how many milliseconds to send the next. */
export async function report(trainerToken: string, fix: Schemas["Fix"]): Promise<number> {
  const { data: answer, error } = await client(base, trainerToken).POST("/api/v1/admin/location-tracking/journey/updates", { body: fix });
  return error === undefined ? reported(answer?.data) : afterRefusal(error);
}

/** Shows the live location until the journey ends, by long polls. */
export async function follow(studentToken: string, sessionId: string): Promise<void> {
  const student = client(base, studentToken);
  let etag: string | undefined;
  for (let wait = 0; ; wait = 30) {
    const { data: answer, error, response } = await student.GET("/api/v1/admin/location-tracking/journey/live", {
      params: { query: { sessionId, wait }, header: etag === undefined ? {} : { "If-None-Match": etag } },
    });
    if (response.status === 304) {
      continue;
    }
    if (answer === undefined) {
      await beforePoll(error);
      continue;
    }
    etag = response.headers.get("ETag") ?? undefined;
    if (!shown(answer.data)) {
      return;
    }
  }
}

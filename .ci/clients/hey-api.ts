// The same program as openapi-typescript.ts on the client that @hey-api/openapi-ts generates. Only its types are checked.
import type { Different, None } from "./expected";
import { createSession, readLive, startJourney, updateLocation } from "./generated/hey-api";
import type * as api from "./generated/hey-api";
import { createClient, createConfig } from "./generated/hey-api/client";
import type { Client } from "./generated/hey-api/client";
import { afterRefusal, beforePoll, failure, reported, shown } from "./shared";

type Data<Answer> = Answer extends { success: true; message: string; data: infer D } ? D : never;

interface Generated {
  start: api.Start;
  startBody: api.StartJourneyData["body"];
  journey: Data<api.StartJourneyResponses[201]>;
  alreadyStarted: api.StartJourneyErrors[409];
  fix: api.UpdateLocationData["body"];
  judged: Data<api.UpdateLocationResponses[200]>;
  stored: Data<api.UpdateLocationResponses[201]>;
  unstored: Data<api.UpdateLocationResponses[202]>;
  implausible: api.UpdateLocationErrors[400];
  tooSoon: api.UpdateLocationErrors[429];
  liveQuery: api.ReadLiveData["query"];
  liveHeaders: api.ReadLiveData["headers"];
  live: Data<api.ReadLiveResponses[200]>;
  tooManyWaits: api.ReadLiveErrors[429];
  arrivalBody: api.ArriveData["body"];
  arrived: Data<api.ArriveResponses[200]>;
  notArrived: api.ArriveErrors[400];
  arrivalUnchecked: api.ArriveErrors[503];
  stopped: Data<api.StopJourneyResponses[200]>;
  booking: api.CreateSessionData["body"];
  rebooking: api.ChangeSessionData["body"];
  booked: Data<api.CreateSessionResponses[201]>;
  bookedBefore: Data<api.CreateSessionResponses[200]>;
  session: Data<api.ReadSessionResponses[200]>;
  sessions: Data<api.ListSessionsResponses[200]>;
  journeys: Data<api.ListJourneysResponses[200]>;
  rating: Data<api.ReadRatingResponses[200]>;
  otp: api.VerifyOtpData["body"];
  verified: Data<api.VerifyOtpResponses[200]>;
  notVerified: api.VerifyOtpErrors[400];
  locked: api.VerifyOtpErrors[429];
  completed: Data<api.CompleteSessionResponses[200]>;
  cancellation: api.Cancellation;
  cancelled: Data<api.CancelSessionResponses[200]>;
  noShow: Data<api.MarkNoShowResponses[200]>;
  notNoShow: api.MarkNoShowErrors[409];
  review: api.ReviewSessionData["body"];
  reviewed: Data<api.ReviewSessionResponses[201]>;
  reviewedBefore: Data<api.ReviewSessionResponses[200]>;
  device: api.PutPushTokenData["body"];
  forgottenDevice: api.DeletePushTokenData["body"];
  unauthenticated: api.ReadSessionErrors[401];
  unavailable: api.ReadSessionErrors[503];
  ready: api.ReadyzResponses[200];
  notReady: api.ReadyzErrors[503];
}

export type AsExpected = None<Different<Generated>>;

const client = (baseUrl: string, token: string): Client => createClient(createConfig({ baseUrl, auth: token }));

const base = "http://127.0.0.1:8080";

/** Books a session, starts its journey and returns the session's id. */
export async function book(adminToken: string, trainerToken: string, booking: api.Booking): Promise<string> {
  const booked = await createSession({ client: client(base, adminToken), body: booking });
  if (booked.data === undefined) {
    throw failure(booked.error);
  }
  const { sessionId } = booked.data.data;
  const started = await startJourney({ client: client(base, trainerToken), path: { sessionId } });
  if (started.error !== undefined && started.error.code !== "JOURNEY_ALREADY_STARTED") {
    throw failure(started.error);
  }
  return sessionId;
}

/** Sends one fix and returns after how many milliseconds to send the next. */
export async function report(trainerToken: string, fix: api.Fix): Promise<number> {
  const { data: answer, error } = await updateLocation({ client: client(base, trainerToken), body: fix });
  return error === undefined ? reported(answer?.data) : afterRefusal(error);
}

/** Shows the live location until the journey ends, by long polls. */
export async function follow(studentToken: string, sessionId: string): Promise<void> {
  const student = client(base, studentToken);
  let etag: string | undefined;
  for (let wait = 0; ; wait = 30) {
    const { data: answer, error, response } = await readLive({
      client: student,
      query: { sessionId, wait },
      headers: etag === undefined ? {} : { "If-None-Match": etag },
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

/** The messages of the interface, by the names that the page uses. */
import type { components } from "./schema.d.ts";

type Schemas = components["schemas"];

export type Status = Schemas["StatusResponse"];
export type Bundle = Schemas["Bundle"];
export type LearnProgress = Schemas["LearnProgress"];
export type Event = Schemas["Event"];
export type Alert = Schemas["Alert"];
export type AlertReason = Schemas["AlertReason"];
export type Anomaly = Schemas["Anomaly"];
export type FlowEvent = Schemas["FlowEvent"];
export type SourceEvent = Schemas["SourceEvent"];
export type AgentEvent = Schemas["AgentEvent"];
export type Action = Schemas["Action"];
export type Decision = Schemas["Decision"];
export type DecisionState = Schemas["DecisionState"];
export type DecisionHistory = Schemas["DecisionHistory"];
export type AllowEntry = Schemas["AllowEntry"];
export type ListState = Schemas["ListState"];
export type Question = Schemas["Question"];
export type QuestionDetail = Schemas["QuestionDetail"];
export type QuestionOption = Schemas["QuestionOption"];
export type Label = Schemas["Label"];
export type Suppression = Schemas["Suppression"];
export type AuditEntry = Schemas["AuditEntry"];
export type EvidenceSummary = Schemas["EvidenceSummary"];
export type BundleDetail = Schemas["BundleDetail"];
export type ModelDrift = Schemas["ModelDriftResponse"];
export type Comparison = Schemas["Comparison"];
export type ComparedBundle = Schemas["ComparedBundle"];
export type RateLimit = Schemas["RateLimit"];
export type AnswerChoice = Schemas["AnswerChoice"];
export type AnswerWidth = Schemas["AnswerWidth"];
export type AlertTruth = Schemas["AlertTruth"];

/** Who looks at the page, and until when. */
export interface Session {
  name: string;
  role: "viewer" | "operator";
  csrf: string;
  expires_us: number;
}

export type TrafficPoint = Schemas["TrafficPoint"];
export type ScorePoint = Schemas["ScorePoint"];
export type TopSource = Schemas["TopSource"];
export type TopSources = Schemas["TopSourcesResponse"];
export type RecordedFlow = Schemas["RecordedFlow"];
export type FoundFlows = Schemas["SearchFlowsResponse"];
export type AlertContext = Schemas["AlertContextResponse"];
export type SimilarAlert = Schemas["SimilarAlert"];
export type Config = Schemas["ShowConfigResponse"];
export type Calibration = Schemas["ModelCalibrationResponse"];

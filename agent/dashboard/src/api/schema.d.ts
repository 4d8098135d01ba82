export interface components { schemas: {
Mode: "MODE_UNSPECIFIED" | "MODE_OBSERVE" | "MODE_SHADOW" | "MODE_ENFORCE" | "MODE_REVIEW";
XdpMode: "XDP_MODE_UNSPECIFIED" | "XDP_MODE_NATIVE" | "XDP_MODE_GENERIC";
Action: "ACTION_UNSPECIFIED" | "ACTION_SHADOW" | "ACTION_DROP" | "ACTION_LIMIT";
RateUnit: "RATE_UNIT_UNSPECIFIED" | "RATE_UNIT_PACKETS" | "RATE_UNIT_BYTES";
Sides: "SIDES_UNSPECIFIED" | "SIDES_IN" | "SIDES_OUT" | "SIDES_BOTH";
Origin: "ORIGIN_UNSPECIFIED" | "ORIGIN_MANUAL" | "ORIGIN_AUTOMATIC" | "ORIGIN_LIST";
EventKind: "EVENT_KIND_UNSPECIFIED" | "EVENT_KIND_FLOW" | "EVENT_KIND_SOURCE" | "EVENT_KIND_ALERT" | "EVENT_KIND_DECISION" | "EVENT_KIND_HITS" | "EVENT_KIND_AGENT" | "EVENT_KIND_QUESTION";
LearnFrom: "LEARN_FROM_UNSPECIFIED" | "LEARN_FROM_LIVE" | "LEARN_FROM_RECORD";
LoadPurpose: "LOAD_PURPOSE_UNSPECIFIED" | "LOAD_PURPOSE_PROMOTE" | "LOAD_PURPOSE_CHALLENGE";
AnswerChoice: "ANSWER_CHOICE_UNSPECIFIED" | "ANSWER_CHOICE_IGNORE" | "ANSWER_CHOICE_SUPPRESS" | "ANSWER_CHOICE_WATCH" | "ANSWER_CHOICE_LIMIT" | "ANSWER_CHOICE_DROP";
AnswerWidth: "ANSWER_WIDTH_UNSPECIFIED" | "ANSWER_WIDTH_FLOW" | "ANSWER_WIDTH_PORT" | "ANSWER_WIDTH_HOST" | "ANSWER_WIDTH_PREFIX";
AlertTruth: "ALERT_TRUTH_UNSPECIFIED" | "ALERT_TRUTH_TRUE" | "ALERT_TRUTH_FALSE" | "ALERT_TRUTH_UNSURE";
WebRole: "WEB_ROLE_UNSPECIFIED" | "WEB_ROLE_VIEWER" | "WEB_ROLE_OPERATOR";
RateLimit: {
  unit: components["schemas"]["RateUnit"];
  per_second: number;
  burst?: number;
};
StatusRequest: {
};
StatusResponse: {
  version: string;
  interface: string;
  ifindex: number;
  mode_configured: components["schemas"]["Mode"];
  mode_effective: components["schemas"]["Mode"];
  mode_reason: string;
  xdp_mode: components["schemas"]["XdpMode"];
  xdp_cause: string;
  uptime_us: number;
  bundle?: components["schemas"]["Bundle"];
  learning?: components["schemas"]["LearnProgress"];
  flows_live: number;
  flows_last_epoch: number;
  epochs: number;
  drain_last_us: number;
  drain_max_us: number;
  lost: components["schemas"]["NamedCount"][];
  counters: components["schemas"]["Counter"][];
  decisions: components["schemas"]["DecisionCount"][];
  maps: components["schemas"]["MapUse"][];
  warnings: string[];
  netflow?: components["schemas"]["NetflowStatus"];
  challenger?: components["schemas"]["ChallengerStatus"];
  record?: components["schemas"]["RecordStatus"];
  drifted: string[];
};
ChallengerStatus: {
  id: string;
  since_us: number;
  flows: number;
  epochs_left_out: number;
  cpu_us: number;
  differing_sources: number;
  failed: string;
};
RecordStatus: {
  enabled: boolean;
  dir: string;
  files: number;
  bytes: number;
  max_bytes: number;
  max_age_us: number;
  oldest_us?: number;
  newest_us?: number;
  flows: number;
  windows: number;
  lost: number;
  failing: string;
};
NetflowStatus: {
  listen: string;
  allowed: string[];
  datagrams: number;
  records: number;
  flows: number;
  unscored: number;
  exporters: number;
  templates: number;
  unpaired: number;
  waiting_bytes: number;
  memory: number;
  dropped: components["schemas"]["NamedCount"][];
};
NamedCount: {
  name: string;
  count: number;
};
Counter: {
  name: string;
  packets: number;
  bytes: number;
};
DecisionCount: {
  action: components["schemas"]["Action"];
  origin: components["schemas"]["Origin"];
  count: number;
};
MapUse: {
  name: string;
  entries: number;
  max_entries: number;
  bytes: number;
};
Bundle: {
  id: string;
  promoted: boolean;
  origin: string;
  created_us: number;
  flows: number;
  windows: number;
  profiles: string[];
  current: boolean;
  hash: string;
  bytes: number;
  challenger: boolean;
  steps_back?: number;
  since_us?: number;
};
LearnProgress: {
  started_us: number;
  duration_us: number;
  elapsed_us: number;
  flows: number;
  min_flows: number;
  windows: number;
  min_windows: number;
  phase: string;
  from: string;
};
WatchEventsRequest: {
  kinds: components["schemas"]["EventKind"][];
  resume_token: string;
};
WatchEventsResponse: {
  event?: components["schemas"]["Event"];
  lost?: number;
  resume_token: string;
  restarted: boolean;
};
Event: {
  time_us: number;
  kind: components["schemas"]["EventKind"];
  json: string;
  line: string;
  flow?: components["schemas"]["FlowEvent"];
  source?: components["schemas"]["SourceEvent"];
  alert?: components["schemas"]["AlertEvent"];
  decision?: components["schemas"]["DecisionEvent"];
  hits?: components["schemas"]["HitsEvent"];
  agent?: components["schemas"]["AgentEvent"];
  question?: components["schemas"]["QuestionEvent"];
};
Anomaly: {
  profile: string;
  p_value: number;
  autoencoder: number;
  isolation_forest: number;
  role: string;
  actionable: boolean;
  extrapolated: boolean;
  default_bundle: boolean;
  reasons: string[];
};
FlowEvent: {
  flow_id: string;
  client: string;
  server: string;
  client_port: number;
  server_port: number;
  proto: number;
  start_us: number;
  end_us: number;
  packets_to_server: number;
  packets_to_client: number;
  bytes_to_server: number;
  bytes_to_client: number;
  proven: boolean;
  anomaly?: components["schemas"]["Anomaly"];
};
SourceEvent: {
  source: string;
  proven: boolean;
  flows: number;
  anomaly?: components["schemas"]["Anomaly"];
};
AlertEvent: {
  id: number;
  source: string;
  severity: string;
  evidence: number;
  evidence_proven: number;
  alert_threshold: number;
  drop_threshold: number;
  ports: number[];
  flows: number;
  since_us: number;
  outcome: string;
  mode: components["schemas"]["Mode"];
  anomaly?: components["schemas"]["Anomaly"];
};
DecisionEvent: {
  change: string;
  decision?: components["schemas"]["Decision"];
  mode: components["schemas"]["Mode"];
  note: string;
};
HitsEvent: {
  decision_id: number;
  target: string;
  action: components["schemas"]["Action"];
  packets: number;
  bytes: number;
};
AgentEvent: {
  level: string;
  kind: string;
  message: string;
};
Decision: {
  id: number;
  target: string;
  action: components["schemas"]["Action"];
  sides: components["schemas"]["Sides"];
  origin: components["schemas"]["Origin"];
  created_us: number;
  expires_us?: number;
  reason: string;
  instead_of?: components["schemas"]["Action"];
  alert_id?: number;
  limit?: components["schemas"]["RateLimit"];
};
DecisionState: {
  decision?: components["schemas"]["Decision"];
  enforced: boolean;
  packets: number;
  bytes: number;
  last_hit_us?: number;
  note: string;
  awaiting_confirmation: boolean;
};
ListDecisionsRequest: {
};
ListDecisionsResponse: {
  decisions: components["schemas"]["DecisionState"][];
};
AddDecisionRequest: {
  target: string;
  action: components["schemas"]["Action"];
  sides: components["schemas"]["Sides"];
  lifetime_us?: number;
  reason: string;
  confirm_within_us?: number;
  limit?: components["schemas"]["RateLimit"];
  no_confirm: boolean;
};
AddDecisionResponse: {
  decision?: components["schemas"]["DecisionState"];
};
ConfirmDecisionRequest: {
  id: number;
};
ConfirmDecisionResponse: {
  decision?: components["schemas"]["DecisionState"];
};
DeleteDecisionRequest: {
  id?: number;
  target?: string;
};
DeleteDecisionResponse: {
  deleted: components["schemas"]["Decision"][];
};
AllowEntry: {
  prefix: string;
  comment: string;
  origin: string;
  removable: boolean;
  expires_us?: number;
};
ListAllowRequest: {
};
ListAllowResponse: {
  entries: components["schemas"]["AllowEntry"][];
};
AddAllowRequest: {
  prefix: string;
  comment: string;
  lifetime_us?: number;
};
AddAllowResponse: {
  entry?: components["schemas"]["AllowEntry"];
  lifted: components["schemas"]["Decision"][];
};
RemoveAllowRequest: {
  prefix: string;
};
RemoveAllowResponse: {
  removed?: components["schemas"]["AllowEntry"];
};
CheckAllowRequest: {
  prefix: string;
};
CheckAllowResponse: {
  protected_by: components["schemas"]["AllowEntry"][];
};
LearnRequest: {
  duration_us?: number;
  min_flows?: number;
  from: components["schemas"]["LearnFrom"];
  since_us?: number;
};
LearnResponse: {
  progress?: components["schemas"]["LearnProgress"];
};
ModelStatusRequest: {
};
ModelStatusResponse: {
  bundles: components["schemas"]["Bundle"][];
};
InspectModelRequest: {
  id: string;
};
InspectModelResponse: {
  bundle?: components["schemas"]["BundleDetail"];
};
BundleDetail: {
  hash: string;
  bundle_version: number;
  weir_version: string;
  seed: number;
  source: string;
  trained_at_us?: number;
  first_us: number;
  last_us: number;
  window_us: number;
  bytes: number;
  corpora: components["schemas"]["CorpusDetail"][];
  evidence?: components["schemas"]["EvidenceDetail"];
  profiles: components["schemas"]["ProfileDetail"][];
  unfit: string;
};
CorpusDetail: {
  name: string;
  from: string;
  licence: string;
  rows: number;
};
EvidenceDetail: {
  alert: number;
  drop: number;
  allowance: number[];
  budget_per_day: number;
  certified: boolean;
  benign_windows: number;
  benign_sources: number;
  strange: string[];
  note: string;
};
ProfileDetail: {
  name: string;
  features: components["schemas"]["FeatureDetail"][];
  models: components["schemas"]["ModelFile"][];
  training?: components["schemas"]["TrainingDetail"];
  roles: components["schemas"]["RoleDetail"][];
  golden_vectors: number;
};
FeatureDetail: {
  name: string;
  transform: string;
  usual_low: number;
  usual_median: number;
  usual_high: number;
};
ModelFile: {
  detector: string;
  file: string;
  sha256: string;
  bytes: number;
  opset: number;
  problem: string;
};
TrainingDetail: {
  rows: number;
  fit_rows: number;
  early_stop_rows: number;
  calibration_1_rows: number;
  calibration_2_rows: number;
  fit_duplicates: number;
  fit_recurring: number;
  fit_left_out: number;
  rows_alone: number;
  epochs: number;
  early_stop_loss: number;
};
RoleDetail: {
  role: string;
  calibration_1: number;
  calibration_2: number;
  smallest_rate: number;
  actionable: boolean;
};
LoadModelRequest: {
  start?: components["schemas"]["LoadModelStart"];
  file?: string;
  data?: string;
};
LoadModelStart: {
  purpose: components["schemas"]["LoadPurpose"];
};
LoadModelResponse: {
  bundle?: components["schemas"]["Bundle"];
};
RollbackModelRequest: {
  steps: number;
};
RollbackModelResponse: {
  bundle?: components["schemas"]["Bundle"];
};
ChallengeModelRequest: {
  id: string;
};
ChallengeModelResponse: {
  bundle?: components["schemas"]["Bundle"];
};
CompareModelsRequest: {
};
CompareModelsResponse: {
  comparison?: components["schemas"]["Comparison"];
};
Comparison: {
  over: string;
  first_us: number;
  last_us: number;
  a?: components["schemas"]["ComparedBundle"];
  b?: components["schemas"]["ComparedBundle"];
  profiles: components["schemas"]["ComparedProfile"][];
  sources?: components["schemas"]["SourceCounts"];
  differences: components["schemas"]["SourceDifference"][];
  more_differences: number;
  sources_left_out: number;
  epochs_left_out: number;
  cpu_us: number;
  notes: string[];
};
ComparedBundle: {
  id: string;
  alerts: number;
  alerts_high: number;
  drops: number;
  shadows: number;
  evidence_sources: number;
  cpu_us: number;
  alert_threshold: number;
  drop_threshold: number;
  limits: number;
};
ComparedProfile: {
  name: string;
  rows: number;
  attacks: number;
  attacks_a: number;
  attacks_b: number;
  anomalies_both: number;
  anomalies_a: number;
  anomalies_b: number;
  shift: number;
  shift_a: number;
  shift_b: number;
  rates: components["schemas"]["RealisedRate"][];
  tenths_a: number[];
  tenths_b: number[];
};
RealisedRate: {
  asked: number;
  a: number;
  b: number;
  a_low: number;
  a_high: number;
  b_low: number;
  b_high: number;
  a_certified: boolean;
  b_certified: boolean;
};
SourceCounts: {
  alerted_a: number;
  alerted_b: number;
  alerted_both: number;
  dropped_a: number;
  dropped_b: number;
  dropped_both: number;
  differing: number;
};
SourceDifference: {
  source: string;
  a?: components["schemas"]["SourceOutcome"];
  b?: components["schemas"]["SourceOutcome"];
};
SourceOutcome: {
  outcome: string;
  alerted_us?: number;
  decided_us?: number;
  severity: string;
  evidence: number;
  evidence_proven: number;
  ports: number[];
  reasons: string[];
  note: string;
};
PromoteModelRequest: {
  id: string;
};
PromoteModelResponse: {
  bundle?: components["schemas"]["Bundle"];
};
ModelDriftRequest: {
};
ModelDriftResponse: {
  bundle: string;
  roles: components["schemas"]["RoleDrift"][];
  features: components["schemas"]["FeatureDrift"][];
};
RoleDrift: {
  profile: string;
  role: string;
  state: string;
  voters: number;
  withheld: number;
  effect: number;
  at_5_percent: number;
  leads_to_drops: boolean;
};
FeatureDrift: {
  profile: string;
  feature: string;
  words: string;
  moved: boolean;
  voters: number;
  below_usual: number;
  above_usual: number;
  below_median: number;
  above_median: number;
  effect: number;
};
ListAlertsRequest: {
  limit: number;
  source: string;
  since_us: number;
};
ListAlertsResponse: {
  alerts: components["schemas"]["Alert"][];
};
GetAlertRequest: {
  id: number;
};
GetAlertResponse: {
  alert?: components["schemas"]["Alert"];
};
Alert: {
  id: number;
  time_us: number;
  source: string;
  severity: string;
  evidence: number;
  evidence_proven: number;
  alert_threshold: number;
  drop_threshold: number;
  profile: string;
  role: string;
  p_value: number;
  ports: number[];
  flows: number;
  since_us: number;
  outcome: string;
  mode: string;
  reasons: components["schemas"]["AlertReason"][];
  history: components["schemas"]["EvidencePoint"][];
  json: string;
  unless: string;
};
AlertReason: {
  feature: string;
  words: string;
  observed: number;
  usual_low: number;
  usual_high: number;
  share: number;
  nearest_usual: string;
};
EvidencePoint: {
  time_us: number;
  all: number;
  proven: number;
};
FlushRecordRequest: {
};
FlushRecordResponse: {
  record?: components["schemas"]["RecordStatus"];
};
ReloadConfigRequest: {
};
ReloadConfigResponse: {
  applied: string[];
  needs_restart: string[];
};
QuestionEvent: {
  change: string;
  question?: components["schemas"]["Question"];
  note: string;
};
Question: {
  id: number;
  source: string;
  why: string;
  target: string;
  action: string;
  ttl_us: number;
  evidence: string;
  alert_id: number;
  asked_us: number;
  last_us: number;
  count: number;
  expires_us: number;
  unanswered: string;
  state: string;
  came_to: string;
  answered_us: number;
  decision_id: number;
  suppression_id: number;
};
QuestionDetail: {
  question?: components["schemas"]["Question"];
  reasons: string[];
  options: components["schemas"]["QuestionOption"][];
  basis: string;
};
QuestionOption: {
  number: number;
  choice: string;
  width: string;
  target: string;
  words: string;
  ttl_us: number;
  collateral?: components["schemas"]["Collateral"];
  refused: string;
};
Collateral: {
  established: number;
  established_ssh: number;
  flows: number;
  hosts: number;
  ordinary?: number;
  words: string;
};
ListQuestionsRequest: {
  all: boolean;
};
ListQuestionsResponse: {
  questions: components["schemas"]["Question"][];
  not_asked: number;
};
GetQuestionRequest: {
  id: number;
};
GetQuestionResponse: {
  question?: components["schemas"]["QuestionDetail"];
};
AnswerQuestionRequest: {
  id: number;
  choice: components["schemas"]["AnswerChoice"];
  width: components["schemas"]["AnswerWidth"];
  limit?: components["schemas"]["RateLimit"];
  lifetime_us?: number;
  comment: string;
};
AnswerQuestionResponse: {
  question?: components["schemas"]["Question"];
};
UndoAnswerRequest: {
  id: number;
};
UndoAnswerResponse: {
  question?: components["schemas"]["Question"];
  lifted: string;
};
LabelAlertRequest: {
  alert_id: number;
  truth: components["schemas"]["AlertTruth"];
  scope?: components["schemas"]["SuppressionScope"];
  lifetime_us?: number;
  comment: string;
};
SuppressionScope: {
  prefix: string;
  ports: number[];
  role: string;
  features: string[];
  any_feature: boolean;
};
LabelAlertResponse: {
  label?: components["schemas"]["Label"];
  suppression?: components["schemas"]["Suppression"];
};
Label: {
  id: number;
  alert_id: number;
  source: string;
  from_us: number;
  to_us: number;
  truth: string;
  comment: string;
  by: string;
  at_us: number;
  suppression_id: number;
  undone_by: string;
  undone_us: number;
  ports: number[];
};
ListLabelsRequest: {
};
ListLabelsResponse: {
  labels: components["schemas"]["Label"][];
};
UndoLabelRequest: {
  id: number;
};
UndoLabelResponse: {
  label?: components["schemas"]["Label"];
};
Suppression: {
  id: number;
  prefix: string;
  ports: number[];
  role: string;
  features: string[];
  created_us: number;
  expires_us: number;
  comment: string;
  by: string;
  came_of: string;
  observations: number;
  alerts: number;
  last_us: number;
};
ListSuppressionsRequest: {
};
ListSuppressionsResponse: {
  suppressions: components["schemas"]["Suppression"][];
};
AddSuppressionRequest: {
  scope?: components["schemas"]["SuppressionScope"];
  lifetime_us?: number;
  comment: string;
};
AddSuppressionResponse: {
  suppression?: components["schemas"]["Suppression"];
};
RemoveSuppressionRequest: {
  id: number;
};
RemoveSuppressionResponse: {
  suppression?: components["schemas"]["Suppression"];
};
ImportListRequest: {
  start?: components["schemas"]["ImportListStart"];
  entries?: components["schemas"]["ImportListEntries"];
};
ImportListStart: {
  name: string;
  action: components["schemas"]["Action"];
  limit?: components["schemas"]["RateLimit"];
  sides: components["schemas"]["Sides"];
  comment: string;
  replace: boolean;
  dry_run: boolean;
};
ImportListEntries: {
  entries: components["schemas"]["ImportListEntry"][];
};
ImportListEntry: {
  target: string;
  lifetime_us?: number;
  shadow: boolean;
  reason: string;
};
ImportListResponse: {
  members: number;
  added: number;
  removed: number;
  kept: number;
  protected: number;
  too_wide: number;
  named: string[];
  note: string;
};
ListState: {
  name: string;
  kind: string;
  comment: string;
  members: number;
  protected: number;
  actions: string;
  created_us: number;
  replaced_us: number;
  last_success_us?: number;
  error: string;
  left_out: string;
};
ListListsRequest: {
};
ListListsResponse: {
  lists: components["schemas"]["ListState"][];
};
ShowListRequest: {
  name: string;
};
ShowListResponse: {
  members: components["schemas"]["DecisionState"][];
};
RemoveListRequest: {
  name: string;
};
RemoveListResponse: {
  members: number;
};
ListDecisionHistoryRequest: {
  target: string;
  since_us: number;
  limit: number;
};
ListDecisionHistoryResponse: {
  entries: components["schemas"]["DecisionHistory"][];
};
DecisionHistory: {
  time_us: number;
  decision_id: number;
  change: string;
  target: string;
  action: string;
  origin: string;
  mode: string;
  expires_us?: number;
  packets?: number;
  bytes?: number;
  reason: string;
  note: string;
  alert_id?: number;
};
ListAuditRequest: {
  since_us: number;
  limit: number;
};
ListAuditResponse: {
  entries: components["schemas"]["AuditEntry"][];
};
AuditEntry: {
  time_us: number;
  caller: string;
  call: string;
  subject: string;
  ok: boolean;
  result: string;
};
ListEvidenceRequest: {
  since_us: number;
  limit: number;
};
ListEvidenceResponse: {
  entries: components["schemas"]["EvidenceSummary"][];
};
EvidenceSummary: {
  id: number;
  time_us: number;
  source: string;
  alert_id?: number;
  decision_id?: number;
  bytes: number;
};
GetEvidenceRequest: {
  id: string;
};
GetEvidenceResponse: {
  json: string;
};
TrafficRequest: {
  since_us: number;
};
TrafficResponse: {
  points: components["schemas"]["TrafficPoint"][];
};
TrafficPoint: {
  time_us: number;
  interval_us: number;
  packets_passed: number;
  bytes_passed: number;
  packets_dropped: number;
  bytes_dropped: number;
  packets_limited: number;
  bytes_limited: number;
  packets_shadowed: number;
  bytes_shadowed: number;
  flows_new: number;
  flows_live: number;
};
TopSourcesRequest: {
  limit: number;
};
TopSourcesResponse: {
  sources: components["schemas"]["TopSource"][];
  alert_threshold?: number;
  drop_threshold?: number;
  known: number;
};
TopSource: {
  source: string;
  evidence: number;
  evidence_proven: number;
  flows: number;
  since_us: number;
  last_us: number;
  ports: number[];
  remote: boolean;
  decided?: components["schemas"]["Decision"];
};
ScoresRequest: {
  since_us: number;
  limit: number;
};
ScoresResponse: {
  points: components["schemas"]["ScorePoint"][];
};
ScorePoint: {
  time_us: number;
  p_value: number;
  score: number;
  source: string;
  server: string;
  port: number;
  proto: number;
  actionable: boolean;
  flow_id: string;
};
SearchFlowsRequest: {
  address: string;
  port?: number;
  proto?: number;
  since_us: number;
  until_us: number;
  min_score?: number;
  limit: number;
};
SearchFlowsResponse: {
  flows: components["schemas"]["RecordedFlow"][];
  more: boolean;
  note: string;
  from_us: number;
  scanned: number;
};
RecordedFlow: {
  flow_id: string;
  client: string;
  server: string;
  client_port: number;
  server_port: number;
  proto: number;
  start_us: number;
  end_us: number;
  packets_to_server: number;
  packets_to_client: number;
  bytes_to_server: number;
  bytes_to_client: number;
  proven: boolean;
  state: string;
  end_reason: string;
  seen_at: string;
  p_value?: number;
};
AlertContextRequest: {
  alert_id: number;
};
AlertContextResponse: {
  flows: components["schemas"]["RecordedFlow"][];
  flows_note: string;
  similar: components["schemas"]["SimilarAlert"][];
  decisions: components["schemas"]["DecisionHistory"][];
  labels: components["schemas"]["Label"][];
  question?: components["schemas"]["Question"];
};
SimilarAlert: {
  id: number;
  time_us: number;
  source: string;
  severity: string;
  evidence: number;
  outcome: string;
  same_source: boolean;
  features: string[];
  truth: string;
};
ShowConfigRequest: {
};
ShowConfigResponse: {
  yaml: string;
  summary: string[];
  policy: string[];
  warnings: string[];
  changed: string[];
};
ModelCalibrationRequest: {
};
ModelCalibrationResponse: {
  bundle: string;
  since_us: number;
  profiles: components["schemas"]["ProfileCalibration"][];
  alerts?: components["schemas"]["AlertRate"];
};
ProfileCalibration: {
  profile: string;
  rows: number;
  withheld: number;
  points: components["schemas"]["CalibrationPoint"][];
  distance: number;
};
CalibrationPoint: {
  asked: number;
  realised: number;
  low: number;
  high: number;
  certified: boolean;
};
AlertRate: {
  budget_per_day: number;
  alerts: number;
  over_us: number;
  per_day: number;
  said_attack: number;
  said_false_alarm: number;
};
CreateWebLoginRequest: {
  name: string;
  role: components["schemas"]["WebRole"];
};
CreateWebLoginResponse: {
  url: string;
  expires_us: number;
  name: string;
  role: components["schemas"]["WebRole"];
};
} }

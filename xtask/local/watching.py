"""CloudWatch's alarms and the functions' own metrics, and subscribers who confirm.

Stock ministack forgets the metrics of an expression, looks at a metric of whatever
dimensions, takes no data for nothing, and lets e-mail addresses confirm themselves.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from ministack.core.responses import get_account_id, new_uuid
from ministack.services import cloudwatch, sns, tagging

# The members of an alarm on one metric, which one on an expression does not have.
OF_ONE_METRIC = ("MetricName", "Namespace", "Statistic", "Period", "Dimensions")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
CONFIRMED_BY_MAIL = ("email", "email-json")
# What SNS lists in place of the ARN of a subscription that nobody confirmed.
PENDING = "PendingConfirmation"


# Alarms


def alarm_of_expression(put: Callable) -> Callable:
    """AWS keeps the metrics of an alarm on an expression."""

    def wrapper(params: dict, data: dict, is_cbor: bool, is_json: bool = False) -> Any:
        answer = put(params, data, is_cbor, is_json)
        alarm = cloudwatch._alarms.get(data.get("AlarmName", ""))
        if alarm is not None and data.get("Metrics"):
            alarm["Metrics"] = data["Metrics"]
            for member in OF_ONE_METRIC:
                alarm.pop(member, None)
            evaluate(alarm)
        return answer

    return wrapper


def evaluated_first(describe: Callable) -> Callable:
    """AWS looks at every alarm once a minute; here it is whenever somebody asks."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        cloudwatch._evaluate_all_alarms()
        return describe(*args, **kwargs)

    return wrapper


def evaluate(alarm: dict) -> None:
    """AWS looks at each period of exactly the metric that is named, and counts one
    without data as the alarm says."""
    periods = list(_values(alarm))
    judged = [_is_breaching(alarm, value) for value in periods]
    known = [breaching for breaching in judged if breaching is not None]
    wanted = alarm.get("DatapointsToAlarm") or alarm.get("EvaluationPeriods", 1)
    if not known:
        state = "INSUFFICIENT_DATA"
    else:
        state = "ALARM" if sum(known) >= wanted else "OK"
    old = alarm["StateValue"]
    if state == old:
        return
    reason = f"{sum(known)} of {len(periods)} periods are over the threshold"
    alarm["StateValue"] = state
    alarm["StateReason"] = reason
    alarm["StateUpdatedTimestamp"] = int(time.time())
    cloudwatch._record_history(alarm["AlarmName"], old, state, reason)
    cloudwatch._dispatch_alarm_actions(alarm, old, state, reason)
    cloudwatch._evaluate_parent_alarms(alarm)


def _values(alarm: dict) -> Iterator[float | None]:
    """The value of each period that the alarm looks back on, the latest first."""
    stats = [query["MetricStat"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    is_sum = bool(stats)
    if not stats:
        metric = {key: alarm.get(key) for key in ("Namespace", "MetricName", "Dimensions")}
        stats = [{"Metric": metric, "Period": alarm.get("Period", 60), "Stat": alarm.get("Statistic")}]
    period = int(stats[0]["Period"])
    points = [_points(stat["Metric"]) for stat in stats]
    now = time.time()
    for index in range(int(alarm.get("EvaluationPeriods", 1))):
        end = math.inf if index == 0 else now - index * period
        start = now - (index + 1) * period
        values = [
            _statistic(stat["Stat"], [one for one in of if start <= one["Timestamp"] < end])
            for stat, of in zip(stats, points)
        ]
        # All expressions are sums in which no data is nothing.
        yield sum(value or 0.0 for value in values) if is_sum else values[0]


def _points(metric: dict) -> list[dict]:
    dimensions = cloudwatch._dims_from_list(metric.get("Dimensions") or [])
    key = (metric["Namespace"], metric["MetricName"], cloudwatch._dims_key(dimensions))
    return cloudwatch._metrics.get(key) or []


def _statistic(name: str, points: list[dict]) -> float | None:
    return cloudwatch._stat_value(cloudwatch._calc_stats(points), name) if points else None


def _is_breaching(alarm: dict, value: float | None) -> bool | None:
    if value is None:
        return {"breaching": True, "notBreaching": False}.get(alarm["TreatMissingData"])
    return COMPARISONS[alarm["ComparisonOperator"]](value, float(alarm["Threshold"]))


def tagged_alarms() -> Iterator[tuple[str, list[dict]]]:
    """AWS's tagging API tells of alarms, too."""
    for arn, tags in cloudwatch._resource_tags.items():
        yield arn, tagging._normalise_flat(tags)


def dashboards_with_times(listing: Callable) -> Callable:
    """AWS tells when a dashboard was modified in its protocol's own form of a time."""

    def wrapper(params: dict, data: dict, is_cbor: bool, is_json: bool = False) -> Any:
        if not is_cbor:
            return listing(params, data, is_cbor, is_json)
        prefix = data.get("DashboardNamePrefix") or ""
        entries = [
            {
                "DashboardName": name,
                "DashboardArn": one["DashboardArn"],
                "Size": len(one["DashboardBody"]),
                "LastModified": cloudwatch._cbor_timestamp(
                    cloudwatch._parse_ts(one.get("LastModified")) or 0
                ),
            }
            for name, one in sorted(cloudwatch._dashboards.items())
            if name.startswith(prefix)
        ]
        return cloudwatch._cbor_ok({"DashboardEntries": entries})

    return wrapper


# Metrics


def metrics_in_log(emit: Callable) -> Callable:
    """AWS makes metrics of what a function prints in the embedded metric format."""

    def wrapper(func: dict, request_id: str, log_text: str, *args: Any, **kwargs: Any) -> Any:
        for line in (log_text or "").splitlines():
            if '"_aws"' in line:
                _take(line)
        return emit(func, request_id, log_text, *args, **kwargs)

    return wrapper


def _take(line: str) -> None:
    try:
        said = json.loads(line)
        directives = said["_aws"]["CloudWatchMetrics"]
    except (ValueError, KeyError, TypeError):
        return
    for directive in directives:
        for names in directive["Dimensions"]:
            dimensions = {name: said[name] for name in names}
            for metric in directive["Metrics"]:
                cloudwatch.record_metric(
                    directive["Namespace"],
                    metric["Name"],
                    said[metric["Name"]],
                    metric.get("Unit", "None"),
                    dimensions,
                )


# Subscribers


def pending_mail(subscribe: Callable) -> Callable:
    """AWS sends a mail, and waits until somebody follows the link in it."""

    def wrapper(params: dict) -> Any:
        topic_arn, endpoint = sns._p(params, "TopicArn"), sns._p(params, "Endpoint")
        topic = sns._topics.get(topic_arn) or {"subscriptions": []}
        before = len(topic["subscriptions"])
        answer = subscribe(params)
        for one in topic["subscriptions"][before:]:
            if one["protocol"] in CONFIRMED_BY_MAIL and one["endpoint"] == endpoint:
                one["confirmed"] = False
                one["token"] = new_uuid()
                one["attributes"]["PendingConfirmation"] = "true"
                sns._refresh_subscription_counts(topic)
        return answer

    return wrapper


def pending_unnamed(listing: Callable) -> Callable:
    """AWS lists a subscription that nobody confirmed without its ARN."""

    def wrapper(params: dict) -> Any:
        status, headers, body = listing(params)
        text = body.decode() if isinstance(body, bytes) else body
        for topic in sns._topics.values():
            for one in topic["subscriptions"]:
                if not one.get("confirmed"):
                    arn = f"<SubscriptionArn>{one['arn']}</SubscriptionArn>"
                    text = text.replace(arn, f"<SubscriptionArn>{PENDING}</SubscriptionArn>")
        return status, headers, text.encode() if isinstance(body, bytes) else text

    return wrapper

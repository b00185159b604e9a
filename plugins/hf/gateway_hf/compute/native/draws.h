// Draws tokens: by the inverse of the cumulative distribution, in the order of tokens.
//
// A vocabulary is looked at in groups of tokens, whose sums and largest chances are kept, so that most groups are passed over.
#pragma once

#include <cfloat>

#include "rows.h"

// How a row is drawn from. `top_k` 0: from all; `level`, from (0, 1], is the part of the whole that is passed.
struct Draw {
    int32_t row, top_k;
    float temperature, min_p;
    double top_p, level;
};

// What chance a token has, as a part of the likeliest one's.
struct Chance {
    float power;
    int32_t token;
};

inline bool likelier(const Chance& a, const Chance& b) {
    return a.power > b.power || (a.power == b.power && a.token < b.token);
}

inline double sum_chances(const Chance* from, const Chance* to) {
    double sum = 0;
    for (; from < to; from++) sum += from->power;
    return sum;
}

// The tokens that one row may be drawn from; kept by a thread for its next row.
class Lot {
public:
    // Returns a token, or -1 where the logits are no numbers.
    int draw(const float* logits, int vocabulary, const Draw& how) {
        weigh(logits, vocabulary, how.temperature);
        double total = 0;
        for (double sum : sums_) total += sum;
        if (!(total > 0 && total < INFINITY)) return -1;
        if (!how.top_k && how.top_p >= 1 && !(how.min_p > 0)) return pass(how.level * total);
        if (how.top_k) keep_highest(logits, std::min(how.top_k, vocabulary));
        else if (how.top_p < 1) find(total, how.top_p);
        else collect(how.min_p);
        if (how.top_p < 1) keep_nucleus(how.top_p, how.top_k ? listed() : total);
        // The likeliest is always there, and its chance is 1.
        std::erase_if(chances_, [&](const Chance& each) { return each.power < how.min_p; });
        double target = how.level * listed(), passed = 0;
        for (const Chance& each : chances_)
            if ((passed += each.power) >= target) return each.token;
        return chances_.back().token;
    }

private:
    static constexpr int kHerd = 4 * kLanes;  // tokens of a group
    Room<float> powers_;
    std::vector<float> peaks_, tops_, levels_;
    alignas(64) float rest_[kHerd];
    int whole_ = 0;  // groups
    std::vector<double> sums_;
    std::vector<Chance> chances_, sorted_;

    // Of a group's logits those that there are, else minus infinity.
    Several<4> read(const float* logits, int g) const {
        const float* from = g < whole_ ? logits + long(g) * kHerd : rest_;
        return Several<4>::map([&](int i) { return *(const floats*)(from + i * kLanes); });
    }
    const float* group(int g) const { return powers_.kept.data() + long(g) * kHerd; }
    int groups() const { return int(sums_.size()); }

    double listed() const { return sum_chances(chances_.data(), chances_.data() + chances_.size()); }

    // Makes chances of logits; what is minus infinity has none.
    void weigh(const float* logits, int vocabulary, float temperature) {
        int count = (vocabulary + kHerd - 1) / kHerd;
        whole_ = vocabulary / kHerd;
        powers_.of(size_t(count) * kHerd);
        peaks_.resize(count);
        sums_.resize(count);
        std::fill(rest_, rest_ + kHerd, -INFINITY);
        std::copy(logits + long(whole_) * kHerd, logits + vocabulary, rest_);
        Several<4> most(-INFINITY);
        for (int g = 0; g < count; g++) {
            auto x = read(logits, g);
            most = Several<4>::map([&](int i) { return larger(x.of[i], most.of[i]); });
        }
        const Several<4> highest(most_of(most));
        const float colder = std::min(1.0f / temperature, FLT_MAX);
        for (int g = 0; g < count; g++) {
            auto x = read(logits, g), power = exponential((x - highest) * Several<4>(colder));
            power = Several<4>::map([&](int i) { return pick(x.of[i] == all(-INFINITY), floats{}, power.of[i]); });
            each<4>([&]<int i> { *(floats*)(powers_.kept.data() + long(g) * kHerd + i * kLanes) = power.of[i]; });
            peaks_[g] = most_of(power);
            sums_[g] = sum_of(power.of[0] + power.of[1] + (power.of[2] + power.of[3]));
        }
    }

    // Returns the token at which chances of all reach a sum.
    int pass(double target) const {
        double passed = 0;
        int at = 0;
        while (at + 1 < groups() && passed + sums_[at] < target) passed += sums_[at++];
        for (int i = 0; i < kHerd; i++) {
            passed += group(at)[i];
            if (passed >= target && group(at)[i] > 0) return at * kHerd + i;
        }
        // A group's own sum may be a little less than it said; the last group may have none.
        while (at > 0 && !(peaks_[at] > 0)) at--;
        return at * kHerd + int(std::max_element(group(at), group(at) + kHerd) - group(at));
    }

    // Lists tokens whose chance is no less than a bound, in order.
    void collect(float bound) {
        chances_.clear();
        for (int g = 0; g < groups(); g++) {
            if (peaks_[g] < bound) continue;
            for (int i = 0; i < kHerd; i++)
                if (group(g)[i] >= bound && group(g)[i] > 0) chances_.push_back({group(g)[i], g * kHerd + i});
        }
    }

    // Lists the tokens of the `count` highest logits, and those whose logits are the same as the last of them. (Chances of many
    // may be the same, where it is hot.)
    void keep_highest(const float* logits, int count) {
        float bound = -INFINITY;
        tops_.resize(groups());
        for (int g = 0; g < groups(); g++) tops_[g] = most_of(read(logits, g));
        if (count <= groups()) {  // each of so many groups has one that is no less
            levels_ = tops_;
            std::nth_element(levels_.begin(), levels_.begin() + count - 1, levels_.end(), std::greater<>());
            bound = levels_[count - 1];
        }
        chances_.clear();
        levels_.clear();
        for (int g = 0; g < groups(); g++) {
            if (tops_[g] < bound) continue;
            for (int i = 0, token = g * kHerd; i < kHerd; i++, token++) {
                if (!(group(g)[i] > 0) || logits[token] < bound) continue;
                chances_.push_back({group(g)[i], token});
                levels_.push_back(logits[token]);
            }
        }
        if (int(levels_.size()) <= count) return;
        std::nth_element(levels_.begin(), levels_.begin() + count - 1, levels_.end(), std::greater<>());
        float last = levels_[count - 1];
        std::erase_if(chances_, [&](const Chance& each) { return logits[each.token] < last; });
    }

    // Lists tokens among which are all that reach a share of the total.
    void find(double total, double share) {
        constexpr float first = 1e-3f, step = 1.0f / 32;
        for (float bound = std::min(float(total) * first, 1.0f);; bound *= step) {
            // All that are less likely than this are together less than what is left out.
            bool last = bound * sums_.size() * kHerd <= (1 - share) * total;
            collect(last && bound < FLT_MIN ? 0 : bound);
            if (last || listed() >= share * total) return;
        }
    }

    // Keeps the likeliest tokens that together reach a share of the total: each before which it was not reached yet.
    void keep_nucleus(double share, double total) {
        sorted_ = chances_;
        Chance *from = sorted_.data(), *end = from + sorted_.size();
        double passed = 0;
        // The first is kept; `from` is what comes behind `passed`, likelier than all up to `end`, where the share is reached.
        while (end - from > 1) {
            Chance* middle = from + (end - from) / 2;
            std::nth_element(from, middle, end, likelier);
            double more = sum_chances(from, middle);
            if (passed + more < share * total) passed += more, from = middle;
            else end = middle;
        }
        Chance last = *from;
        std::erase_if(chances_, [&](const Chance& each) { return likelier(last, each); });
    }
};

// Draws a token for each of some rows of logits [vocabulary].
inline void draw_rows(Team& team, const float* logits, int vocabulary, const Draw* draws, int count, int32_t* tokens) {
    team.each(count, [&](int i) {
        static thread_local Lot lot;
        tokens[i] = lot.draw(logits + long(draws[i].row) * vocabulary, vocabulary, draws[i]);
    });
}

// Threads that share the parts of one job at a time.
//
// Each thread has a range of the parts, the same of every job of as many: what it wrote in one job it reads in the next, from
// caches of its own. Who is done with its range takes parts of the others', so a thread that the system has put aside holds up
// nothing but the part it took. Between jobs the threads spin for some microseconds, then sleep. The caller works too.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
inline void relax() { _mm_pause(); }
#else
inline void relax() { std::this_thread::yield(); }
#endif

class Team {
public:
    explicit Team(int size) : ranges_(std::max(size, 1)) {
        for (int i = 1; i < size; i++) helpers_.emplace_back([this, i] { help(i); });
    }

    ~Team() {
        ending_.store(true);
        bell_.fetch_add(1);
        bell_.notify_all();
        for (auto& helper : helpers_) helper.join();
    }

    int size() const { return int(helpers_.size()) + 1; }

    // Calls part(i) for every i in [0, count), in any order, by several threads; returns when all are done.
    template <class Part> void each(int count, const Part& part) {
        if (count <= 1 || helpers_.empty()) {
            for (int i = 0; i < count; i++) part(i);
            return;
        }
        uint64_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
        Job& job = jobs_[epoch & 1];
        job.run = [](const void* context, int i) { (*static_cast<const Part*>(context))(i); };
        job.context = &part;
        done_.store(0, std::memory_order_relaxed);
        for (uint64_t i = 0, from = 0; i < ranges_.size(); i++) {
            uint64_t to = (i + 1) * count / ranges_.size();
            ranges_[i].ticket.store(epoch << 40 | to << 20 | from, std::memory_order_release);
            from = to;
        }
        epoch_.store(epoch);
        if (asleep_.load() > 0) {
            bell_.fetch_add(1);
            bell_.notify_all();
        }
        work(0);
        for (int spins = 0; done_.load(std::memory_order_acquire) != count; spins++) {
            if (spins < kPatience) relax();
            else std::this_thread::yield();
        }
    }

private:
    struct Job {
        void (*run)(const void*, int);
        const void* context;
    };
    static constexpr int kPatience = 2000;
    static constexpr uint64_t kMask = (1 << 20) - 1;

    // A ticket is [epoch 24 | end 20 | next 20]; a part that was taken keeps its job from ending, so that the job's
    // description, of which there are two in turn, can be read safely.
    struct alignas(64) Range {
        std::atomic<uint64_t> ticket{0};
    };
    static bool open(uint64_t ticket) { return (ticket & kMask) < (ticket >> 20 & kMask); }

    // Does the parts of range `own` that are left, then those of the others.
    void work(size_t own) {
        for (size_t i = 0; i < ranges_.size(); i++) {
            std::atomic<uint64_t>& ticket = ranges_[(own + i) % ranges_.size()].ticket;
            while (open(ticket.load(std::memory_order_relaxed))) {
                uint64_t mine = ticket.fetch_add(1);
                if (!open(mine)) break;
                const Job& job = jobs_[mine >> 40 & 1];
                job.run(job.context, int(mine & kMask));
                done_.fetch_add(1, std::memory_order_release);
            }
        }
    }

    void help(size_t own) {
        uint64_t seen = 0;
        for (int spins = 0; !ending_.load(std::memory_order_relaxed); spins++) {
            if (uint64_t epoch = epoch_.load(); epoch != seen) {
                seen = epoch;
                work(own);
                spins = 0;
            } else if (spins < kPatience) {
                relax();
            } else {
                sleep(seen);
                spins = 0;
            }
        }
    }

    void sleep(uint64_t seen) {
        uint32_t heard = bell_.load();
        asleep_.fetch_add(1);
        if (epoch_.load() == seen && !ending_.load()) bell_.wait(heard);
        asleep_.fetch_sub(1);
    }

    std::vector<std::thread> helpers_;
    Job jobs_[2] = {};
    std::vector<Range> ranges_;
    alignas(64) std::atomic<uint64_t> epoch_{0};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<int> asleep_{0};
    std::atomic<uint32_t> bell_{0};
    std::atomic<bool> ending_{false};
};
